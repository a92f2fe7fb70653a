import pyarrow as pa

from unlearn.io.tables import Table

RADII = Table("radii", [("norm", pa.string()), ("eps", pa.float64()), ("headline", pa.bool_())], ["norm", "eps"])
