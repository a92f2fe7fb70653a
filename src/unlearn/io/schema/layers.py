import pyarrow as pa

from unlearn.io.tables import Table

LAYERS = Table(
    "layers",
    [
        ("arch", pa.string()),
        ("scope", pa.string()),
        ("parameters", pa.int64()),
        ("parameter_share", pa.float64()),
        ("layers", pa.int64()),
        ("layer_share", pa.float64()),
    ],
    ["arch", "scope"],
    whole="built",
)
