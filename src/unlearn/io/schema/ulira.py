from unlearn.io.columns import SHADOWED, SHADOWED_KEY, columns
from unlearn.io.tables import Table

ULIRA = Table(
    "ulira",
    [*SHADOWED, *columns("statistic: string, value low high: float64, n left_out: int64")],
    [*SHADOWED_KEY, "statistic"],
    ["low", "high"],  # of quantiles and histograms, for which no jackknife holds
    whole="collected",
)
