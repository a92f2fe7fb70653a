import pyarrow as pa

from unlearn.io.tables import Table

DATASET = Table(
    "dataset", [("id", pa.int64()), ("split", pa.string()), ("label", pa.int64()), ("image", pa.binary())], ["id"]
)
