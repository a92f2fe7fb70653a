"""MIA-efficacy: the share of forgotten images that a membership attack takes for unseen ones.

Jia et al. 2023 (arXiv:2304.04934, App. C.3) and SalUn: a support vector machine (RBF kernel, C = 3, gamma = 1 /
features) is fitted on the model's confidence in the true label, on as many retain images (members) as test images
(non-members), and applied to the forget set. Their code takes the first retain images in stored order; here they are
spread evenly over that order, since some data sets are stored by class. The attack's answers on the forgotten images of
each class say whether some classes are forgotten better than others.
"""

import numpy as np
from scipy.special import softmax
from sklearn.svm import SVC

from unlearn.api.metrics import Evidence, Metric, Row, Rows, disparity, per_class

METRICS = {
    "mia_efficacy": Metric("MIA-efficacy", "match_retrain", 0, 1),
    "class_mia_efficacy": Metric("MIA-efficacy on a class", "match_retrain", 0, 1),
    "class_mia_disparity": Metric("MIA-efficacy between classes, max - min", "match_retrain", 0, 1),
}


def confidence(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Softmax probability of the true label, float64 [N].

    >>> confidence(np.array([0, 1]), np.array([[0.0, 0.0], [0.0, np.log(3)]]))
    array([0.5 , 0.75])
    """
    return softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]


def unseen(retain: np.ndarray, test: np.ndarray, forget: np.ndarray) -> np.ndarray:
    """Which of the ``forget`` confidences are classified as ``test`` rather than ``retain``, bool [N]."""
    count = min(len(retain), len(test))
    members, others = (values[np.linspace(0, len(values) - 1, count).round().astype(int)] for values in (retain, test))
    attack = SVC(C=3, gamma="auto", kernel="rbf")
    attack.fit(np.concatenate([members, others])[:, None], np.repeat([1, 0], count))
    return attack.predict(forget[:, None]) == 0


def efficacy(retain: np.ndarray, test: np.ndarray, forget: np.ndarray) -> float:
    """Share of ``forget`` confidences classified as ``test`` rather than ``retain``."""
    return float(unseen(retain, test, forget).mean())


def compute(run: Evidence) -> Rows:
    """n counts forgotten images: all, of a class, or of the smallest class."""
    features = {role: confidence(*run.of_role(role)) for role in ("retain", "test", "forget")}
    taken = unseen(**features)
    yield Row("mia_efficacy", float(taken.mean()), len(taken))
    classes, values, sizes = per_class(run.of_role("forget")[0], taken)
    for label, value, size in zip(classes, values, sizes, strict=True):
        yield Row("class_mia_efficacy", float(value), int(size), role="forget", label=int(label))
    yield disparity("class_mia_disparity", values, sizes, role="forget")
