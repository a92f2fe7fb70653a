import pyarrow as pa

from unlearn.io.columns import RUN, RUN_KEY
from unlearn.io.tables import Table

TUNING = Table(
    "tuning",
    [
        *RUN,
        ("parameter", pa.string()),
        ("value", pa.float64()),
        ("ua", pa.float64()),
        ("ra", pa.float64()),
        ("ta", pa.float64()),
        ("mia_efficacy", pa.float64()),
        ("distance", pa.float64()),
        ("failure", pa.string()),
        ("chosen", pa.bool_()),
    ],
    [*RUN_KEY, "parameter", "value"],
    ["ua", "ra", "ta", "mia_efficacy", "distance", "failure"],  # null where training diverged, and where not
    whole="collected",
)
