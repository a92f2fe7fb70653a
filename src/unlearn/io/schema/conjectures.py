import pyarrow as pa

from unlearn.io.tables import Table

CONJECTURES = Table(
    "conjectures",
    [
        ("conjecture", pa.string()),
        ("arch", pa.string()),
        ("attack", pa.string()),
        ("eps", pa.float64()),
        ("x", pa.string()),
        ("y", pa.string()),
        ("statistic", pa.string()),
        ("coefficient", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p", pa.float64()),
        ("n", pa.int64()),
        ("seeds", pa.int64()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
    ],
    ["conjecture", "arch", "x", "y", "statistic"],
    ["attack", "eps", "coefficient", "low", "high", "p"],
    whole="analysed",
)
