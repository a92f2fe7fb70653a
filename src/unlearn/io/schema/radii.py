import pyarrow as pa

from unlearn.io.tables import Table

RADII = Table(
    "radii",
    [("threat_norm", pa.string()), ("eps", pa.float64()), ("headline", pa.bool_())],
    ["threat_norm", "eps"],
    whole="built",
)
