import pyarrow as pa

from unlearn.io.columns import DETAIL, DETAIL_KEY, RUN, RUN_KEY
from unlearn.io.tables import Table

METRICS = Table(
    "metrics",
    [*RUN, ("metric", pa.string()), *DETAIL, ("value", pa.float64()), ("n", pa.int64())],
    [*RUN_KEY, "metric", *DETAIL_KEY],
    DETAIL_KEY,
    whole="collected",
)
