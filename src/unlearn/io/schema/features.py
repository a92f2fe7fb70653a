import pyarrow as pa

from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

FEATURES = Table(
    "features",
    [
        *RUN,
        *columns("id: int64, role: string, label: int64, layer: string, depth: int64"),
        ("features", pa.list_(pa.float16())),  # averaged over positions; of one length within a layer
    ],
    [*RUN_KEY, "id", "layer"],
)
