from unlearn.io.columns import columns
from unlearn.io.tables import Table

CONJECTURES = Table(
    "conjectures",
    columns(
        "conjecture source arch attack: string, eps: float64, x y statistic: string, "
        "coefficient low high p: float64, n seeds: int64, verdict reason: string"
    ),
    ["conjecture", "arch", "x", "y", "statistic"],
    ["attack", "eps", "coefficient", "low", "high", "p"],
    whole="analysed",
)
