from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

COST = Table(
    "cost",
    [
        *RUN,
        *columns(
            "seconds cpu_seconds: float64, peak_memory flops trainable_parameters parameters: int64,"
            " device precision: string"
        ),
    ],
    RUN_KEY,
)
