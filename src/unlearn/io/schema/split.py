import pyarrow as pa

from unlearn.io.tables import Table

SPLIT = Table("split", [("id", pa.int64()), ("role", pa.string())], ["id"])
