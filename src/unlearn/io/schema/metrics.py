from unlearn.io.columns import DETAIL, DETAIL_KEY, RUN, RUN_KEY, columns
from unlearn.io.tables import Table

METRICS = Table(
    "metrics",
    [*RUN, *columns("metric: string"), *DETAIL, *columns("value: float64, n: int64, reason: string")],
    [*RUN_KEY, "metric", *DETAIL_KEY],
    [*DETAIL_KEY, "value", "reason"],  # a value that is not defined is null, with the reason
    whole="collected",
)
