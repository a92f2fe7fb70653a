import pyarrow as pa

from unlearn.io.columns import RUN, RUN_KEY
from unlearn.io.tables import Table

ACTIVATIONS = Table(
    "activations",
    [
        *RUN,
        ("layer", pa.string()),
        ("depth", pa.int64()),
        ("role", pa.string()),
        ("class", pa.int64()),
        ("channel", pa.int64()),
        ("count", pa.int64()),
        ("mean", pa.float64()),
        ("sigma", pa.float64()),
    ],
    [*RUN_KEY, "layer", "role", "class", "channel"],
    ["channel"],  # null: the layer as a whole
)
