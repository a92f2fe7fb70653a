"""MIA-efficacy: the share of forgotten images that a membership attack takes for unseen ones.

Jia et al. 2023 (arXiv:2304.04934, App. C.3) and SalUn: a support vector machine (RBF kernel, C = 3,
gamma = 1 / features) is fitted on the model's confidence in the true label, as many retain images
(members) as test images (non-members), and applied to the forget set. Their code takes the first
retain images in stored order; here they are spread evenly over that order, since some data sets
are stored by class.
"""

import numpy as np
from scipy.special import softmax
from sklearn.svm import SVC

from unlearn.metrics import Evidence, Metric, Row, Rows

METRICS = {"mia_efficacy": Metric("MIA-efficacy", "match_retrain", 0, 1)}


def confidence(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Softmax probability of the true label, float64 [N].

    >>> confidence(np.array([0, 1]), np.array([[0.0, 0.0], [0.0, np.log(3)]]))
    array([0.5 , 0.75])
    """
    return softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]


def efficacy(retain: np.ndarray, test: np.ndarray, forget: np.ndarray) -> float:
    """Share of ``forget`` confidences classified as ``test`` rather than ``retain``."""
    count = min(len(retain), len(test))
    members, others = (values[np.linspace(0, len(values) - 1, count).round().astype(int)] for values in (retain, test))
    attack = SVC(C=3, gamma="auto", kernel="rbf")
    attack.fit(np.concatenate([members, others])[:, None], np.repeat([1, 0], count))
    return float((attack.predict(forget[:, None]) == 0).mean())


def compute(run: Evidence) -> Rows:
    features = {role: confidence(*run.of_role(role)) for role in ("retain", "test", "forget")}
    yield Row("mia_efficacy", efficacy(**features), len(features["forget"]))
