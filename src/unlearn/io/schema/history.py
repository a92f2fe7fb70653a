from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

HISTORY = Table(
    "history",
    [*RUN, *columns("epoch: int64, loss lr seconds: float64")],
    [*RUN_KEY, "epoch"],
    empty=True,  # a method need not have epochs
)
