from unlearn.io.columns import columns
from unlearn.io.tables import Table

RADII = Table(
    "radii",
    columns("threat_norm: string, eps: float64, headline: bool"),
    ["threat_norm", "eps"],
    whole="built",
)
