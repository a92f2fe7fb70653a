from unlearn.io.columns import columns
from unlearn.io.tables import Table

CORRELATIONS = Table(
    "correlations",
    columns(
        "arch x y attack: string, eps: float64, role statistic: string, coefficient low high p: float64, n seeds: int64"
    ),
    ["arch", "x", "y", "attack", "eps", "role", "statistic"],
    ["eps", "coefficient", "low", "high", "p"],
    empty=True,  # a study need not measure both sides
    whole="analysed",
)
