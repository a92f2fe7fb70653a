import pyarrow as pa

from unlearn.io.tables import Table

CORRELATIONS = Table(
    "correlations",
    [
        ("arch", pa.string()),
        ("x", pa.string()),
        ("y", pa.string()),
        ("attack", pa.string()),
        ("eps", pa.float64()),
        ("role", pa.string()),
        ("statistic", pa.string()),
        ("coefficient", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p", pa.float64()),
        ("n", pa.int64()),
        ("seeds", pa.int64()),
    ],
    ["arch", "x", "y", "attack", "eps", "role", "statistic"],
    ["eps", "coefficient", "low", "high", "p"],
    empty=True,  # a study need not measure both sides
    whole="analysed",
)
