import pyarrow as pa

from unlearn.io.columns import RUN, RUN_KEY
from unlearn.io.tables import Table

COST = Table(
    "cost",
    [
        *RUN,
        ("seconds", pa.float64()),
        ("cpu_seconds", pa.float64()),
        ("peak_memory", pa.int64()),
        ("trainable_parameters", pa.int64()),
        ("parameters", pa.int64()),
        ("device", pa.string()),
        ("precision", pa.string()),
    ],
    RUN_KEY,
)
