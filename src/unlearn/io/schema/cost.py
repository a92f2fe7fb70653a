from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

COST = Table(
    "cost",
    [
        *RUN,
        *columns(
            "seconds cpu_seconds: float64, peak_memory flops: int64, "
            "trainable_parameters parameters trainable_layers layers: int64, device precision: string"
        ),
    ],
    RUN_KEY,
    # Null of a model that was made elsewhere.
    ["seconds", "cpu_seconds", "peak_memory", "flops", "trainable_parameters", "trainable_layers"],
)
