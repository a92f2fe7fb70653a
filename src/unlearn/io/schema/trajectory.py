from unlearn.io.columns import columns
from unlearn.io.tables import Table

TRAJECTORY = Table(
    "trajectory",
    columns("arch: string, seed epoch: int64, accuracy: float64, layer: string, depth class: int64, sigma: float64"),
    ["arch", "seed", "epoch", "layer", "class"],
    ["epoch"],  # null: of a model that was trained elsewhere
    empty=True,  # models without normalization layers
    whole="collected",
)
