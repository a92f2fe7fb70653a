from unlearn.io.columns import CELL, CELL_KEY, DETAIL, DETAIL_KEY, columns
from unlearn.io.tables import Table

COMPARISONS = Table(
    "comparisons",
    [
        *CELL,
        *columns("metric: string"),
        *DETAIL,
        *columns(
            "mean low high boot_low boot_high gap gap_low gap_high abs_gap spread p p_adjusted: float64, "
            "equivalent: string, seeds_needed n pairs undefined: int64, reason failed_gates: string"
        ),
    ],
    [*CELL_KEY, "metric", *DETAIL_KEY],
    [
        *(*DETAIL_KEY, "low", "high", "boot_low", "boot_high", "gap_low", "gap_high", "spread"),
        *("p", "p_adjusted", "equivalent", "seeds_needed", "reason"),
        *("mean", "gap", "abs_gap"),  # where no run has a value
    ],
    whole="analysed",
)
