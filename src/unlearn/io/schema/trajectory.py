import pyarrow as pa

from unlearn.io.tables import Table

TRAJECTORY = Table(
    "trajectory",
    [
        ("arch", pa.string()),
        ("seed", pa.int64()),
        ("epoch", pa.int64()),
        ("accuracy", pa.float64()),
        ("layer", pa.string()),
        ("depth", pa.int64()),
        ("class", pa.int64()),
        ("sigma", pa.float64()),
    ],
    ["arch", "seed", "epoch", "layer", "class"],
    whole="collected",
)
