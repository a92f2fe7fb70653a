import pyarrow as pa

from unlearn.io.columns import RUN, RUN_KEY
from unlearn.io.tables import Table

ADVERSARIAL = Table(
    "adversarial",
    [
        *RUN,
        ("attack", pa.string()),
        ("aim", pa.string()),
        ("threat_norm", pa.string()),
        ("id", pa.int64()),
        ("role", pa.string()),
        ("label", pa.int64()),
        ("eps", pa.float64()),
        ("predicted", pa.int64()),
        ("distance", pa.float64()),
        ("by", pa.string()),
    ],
    [*RUN_KEY, "attack", "id"],
    ["eps", "distance", "by"],  # null where the attack never succeeded; no member succeeds at radius 0
)
