import pyarrow as pa

from unlearn.io.columns import SHADOWED, SHADOWED_KEY
from unlearn.io.tables import Table

SHADOW = Table(
    "shadow",
    [*SHADOWED, ("shadow", pa.int64()), ("id", pa.int64()), ("status", pa.string()), ("score", pa.float64())],
    [*SHADOWED_KEY, "shadow", "id"],
)
