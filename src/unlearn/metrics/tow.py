"""ToW, "tug of war": one number for how close forgetting, keeping and generalising are to exact retraining.

Zhao et al. 2024 (RUM, arXiv:2406.01257): the product over forget, retain and test images of 1 - |accuracy - retrain's|,
which is 1 where all three agree. ToW-MIA takes MIA-efficacy in place of the accuracy on forgotten images.
"""

import math

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows, why

REQUIRES = ("accuracy", "mia_efficacy")
METRICS = {"tow": Metric("ToW", "max", 0, 1), "tow_mia": Metric("ToW-MIA", "max", 0, 1)}

# UA is 1 - accuracy, which has the same difference.
PARTS = {"tow": ("ua", "ra", "ta"), "tow_mia": ("mia_efficacy", "ra", "ta")}


def compute_relative(run: Evidence, references: References) -> Rows:
    """n counts the parts."""
    for name, parts in PARTS.items():
        value = math.prod(1 - abs(run.value(part) - references.retrain.value(part)) for part in parts)
        yield Row(name, value, len(parts), reason=why(run, references.retrain, *parts))
