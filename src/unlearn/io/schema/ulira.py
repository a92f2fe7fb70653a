import pyarrow as pa

from unlearn.io.columns import SHADOWED, SHADOWED_KEY
from unlearn.io.tables import Table

ULIRA = Table(
    "ulira",
    [
        *SHADOWED,
        ("statistic", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("left_out", pa.int64()),
    ],
    [*SHADOWED_KEY, "statistic"],
    ["low", "high"],  # of quantiles, for which no jackknife holds
    whole="collected",
)
