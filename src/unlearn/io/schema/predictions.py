from unlearn.io.columns import LOGITS, RUN, RUN_KEY, columns
from unlearn.io.tables import Table

PREDICTIONS = Table(
    "predictions",
    [*RUN, *columns("id: int64, role: string, label: int64"), ("logits", LOGITS), *columns("margin: float64")],
    [*RUN_KEY, "id"],
    ["margin"],  # null where the logits do not depend on the image
)
