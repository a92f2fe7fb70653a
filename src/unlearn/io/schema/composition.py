from unlearn.io.columns import columns
from unlearn.io.tables import Table

COMPOSITION = Table(
    "composition",
    columns("forget by value: string, forgotten retained test: int64, share_of_forgotten share_of_training: float64"),
    ["forget", "by", "value"],
    ["value"],  # null for all images, and for those that lack an attribute
    whole="collected",
)
