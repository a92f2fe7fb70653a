from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

ADVERSARIAL = Table(
    "adversarial",
    [
        *RUN,
        *columns(
            "attack aim threat_norm: string, id: int64, role: string, label: int64, eps: float64, "
            "predicted: int64, distance: float64, by: string"
        ),
    ],
    [*RUN_KEY, "attack", "id"],
    ["eps", "distance", "by"],  # null where the attack never succeeded; no member succeeds at radius 0
)
