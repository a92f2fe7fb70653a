import pyarrow as pa

from unlearn.io.columns import LOGITS, RUN, RUN_KEY
from unlearn.io.tables import Table

PREDICTIONS = Table(
    "predictions",
    [
        *RUN,
        ("id", pa.int64()),
        ("role", pa.string()),
        ("label", pa.int64()),
        ("logits", LOGITS),
        ("margin", pa.float64()),
    ],
    [*RUN_KEY, "id"],
    ["margin"],  # null where the logits do not depend on the image
)
