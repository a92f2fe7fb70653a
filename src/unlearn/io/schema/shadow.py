from unlearn.io.columns import SHADOWED, SHADOWED_KEY, columns
from unlearn.io.tables import Table

SHADOW = Table(
    "shadow",
    [*SHADOWED, *columns("shadow id: int64, status: string, score: float64")],
    [*SHADOWED_KEY, "shadow", "id"],
)
