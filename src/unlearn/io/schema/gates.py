import pyarrow as pa

from unlearn.io.columns import RUN, RUN_KEY
from unlearn.io.tables import Table

GATES = Table(
    "gates",
    [
        *RUN,
        ("gate", pa.string()),
        ("attack", pa.string()),
        ("against", pa.string()),
        ("value", pa.float64()),
        ("limit", pa.float64()),
        ("passed", pa.bool_()),
        ("n", pa.int64()),
    ],
    [*RUN_KEY, "gate", "attack", "against"],
    ["against", "value", "passed", "n"],  # null where the study has nothing to compare the attack with
    whole="analysed",
)
