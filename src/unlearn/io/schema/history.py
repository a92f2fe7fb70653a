import pyarrow as pa

from unlearn.io.columns import RUN, RUN_KEY
from unlearn.io.tables import Table

HISTORY = Table(
    "history",
    [*RUN, ("epoch", pa.int64()), ("loss", pa.float64()), ("lr", pa.float64()), ("seconds", pa.float64())],
    [*RUN_KEY, "epoch"],
    empty=True,  # a method need not have epochs
)
