"""Distance of a run's outputs from those of exact retraining, image by image.

``js_divergence`` is the Jensen-Shannon divergence of the softmax outputs p and q, mean over images of
KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2 and natural logarithms, at most ln 2 (Lin 1991, IEEE Trans. Inf.
Theory 37(1); for unlearning Chundawat et al. 2023, arXiv:2205.08096, whose code takes KL(m || p) and KL(m || q)
instead, and the mean over classes too, which divides by their number). ``activation_distance`` is the mean L2 distance
of p and q (arXiv:2205.08096), ``activation_distance_l1`` their mean L1 distance (Golatkar et al. 2020,
arXiv:1911.04933). Two retrainings with different seeds differ as well, so only exact retraining itself has distance 0.
"""

import math

import numpy as np
from scipy.special import rel_entr, softmax

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows

METRICS = {
    "js_divergence": Metric("JS divergence from retrain", "min", 0, math.log(2), "nat"),
    "activation_distance": Metric("activation distance from retrain, L2", "min", 0, math.sqrt(2)),
    "activation_distance_l1": Metric("activation distance from retrain, L1", "min", 0, 2),
}


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Divergence of distributions [N, C] in nats, [N].

    >>> jensen_shannon(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) / np.log(2)
    array([1.])
    """
    m = (p + q) / 2
    # Rounding leaves the bounds by 1e-16.
    return np.clip((rel_entr(p, m) + rel_entr(q, m)).sum(1) / 2, 0, math.log(2))


def compute_relative(run: Evidence, references: References) -> Rows:
    """Per role; n counts images."""
    for role in ("forget", "retain", "test"):
        p, q = (softmax(x.astype(np.float64), axis=1) for x in run.beside(references.retrain, role)[1:])
        for name, values, high in (
            ("js_divergence", jensen_shannon(p, q), math.log(2)),
            ("activation_distance", np.linalg.norm(p - q, axis=1), math.sqrt(2)),
            ("activation_distance_l1", np.abs(p - q).sum(1), 2),
        ):
            yield Row(name, min(float(values.mean()), high), len(values), role=role)
