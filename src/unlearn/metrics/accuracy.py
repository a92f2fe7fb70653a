"""UA, RA, TA: how much is forgotten, kept, and generalised.

The definitions of Fan et al. 2024 (SalUn, §5.1): UA = 1 - accuracy on the forget set, RA and TA =
accuracy on the retain set and the test set; evaluation mode, no augmentation.
"""

import numpy as np

from unlearn.api.metrics import Evidence, Metric, Row, Rows

METRICS = {
    "ua": Metric("UA", "match_retrain", 0, 1),
    "ra": Metric("RA", "match_retrain", 0, 1),
    "ta": Metric("TA", "match_retrain", 0, 1),
}


def accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of rows whose largest logit is the label's.

    >>> accuracy(np.array([0, 1, 1]), np.array([[2.0, 1], [0, 3], [1, 0]]))
    0.6666666666666666
    """
    return float((logits.argmax(1) == labels).mean())


def compute(run: Evidence) -> Rows:
    for name, role in (("ua", "forget"), ("ra", "retain"), ("ta", "test")):
        labels, logits = run.of_role(role)
        value = accuracy(labels, logits)
        yield Row(name, 1 - value if name == "ua" else value, len(labels))
