from unlearn.io.columns import columns
from unlearn.io.tables import Table

DATASET = Table(
    "dataset",
    columns("id: int64, split: string, label: int64, origin: string, digest: int64, image: binary"),
    ["id"],
    further=True,  # attributes of the images
)
