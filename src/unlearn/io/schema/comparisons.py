import pyarrow as pa

from unlearn.io.columns import CELL, CELL_KEY, DETAIL, DETAIL_KEY
from unlearn.io.tables import Table

COMPARISONS = Table(
    "comparisons",
    [
        *CELL,
        ("metric", pa.string()),
        *DETAIL,
        ("mean", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("boot_low", pa.float64()),
        ("boot_high", pa.float64()),
        ("gap", pa.float64()),
        ("gap_low", pa.float64()),
        ("gap_high", pa.float64()),
        ("abs_gap", pa.float64()),
        ("spread", pa.float64()),
        ("p", pa.float64()),
        ("p_adjusted", pa.float64()),
        ("equivalent", pa.string()),
        ("seeds_needed", pa.int64()),
        ("n", pa.int64()),
        ("failed_gates", pa.string()),
    ],
    [*CELL_KEY, "metric", *DETAIL_KEY],
    [
        *(*DETAIL_KEY, "low", "high", "boot_low", "boot_high", "gap_low", "gap_high", "spread"),
        *("p", "p_adjusted", "equivalent", "seeds_needed"),
    ],
    whole="analysed",
)
