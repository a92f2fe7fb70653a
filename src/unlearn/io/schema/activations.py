from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

ACTIVATIONS = Table(
    "activations",
    [*RUN, *columns("layer: string, depth: int64, role: string, class channel count: int64, mean sigma: float64")],
    [*RUN_KEY, "layer", "role", "class", "channel"],
    ["channel"],  # null: the layer as a whole
    empty=True,  # a model without normalization layers
)
