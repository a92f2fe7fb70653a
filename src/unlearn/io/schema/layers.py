from unlearn.io.columns import columns
from unlearn.io.tables import Table

LAYERS = Table(
    "layers",
    columns("arch scope: string, parameters: int64, parameter_share: float64, layers: int64, layer_share: float64"),
    ["arch", "scope"],
    whole="built",
)
