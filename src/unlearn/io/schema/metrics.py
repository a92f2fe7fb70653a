from unlearn.io.columns import DETAIL, DETAIL_KEY, RUN, RUN_KEY, columns
from unlearn.io.tables import Table

METRICS = Table(
    "metrics",
    [*RUN, *columns("metric: string"), *DETAIL, *columns("value: float64, n: int64")],
    [*RUN_KEY, "metric", *DETAIL_KEY],
    DETAIL_KEY,
    whole="collected",
)
