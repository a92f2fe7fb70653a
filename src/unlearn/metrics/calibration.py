"""Expected calibration error: how far a model's confidence is from the share of images on which it is right.

Guo et al. 2017 (arXiv:1706.04599, §2): images fall into 15 bins of equal width by the softmax probability of the
predicted class; the error is the mean over images of |share that is right - mean probability| of the image's bin. A bin
holds its upper edge.
"""

import numpy as np
from scipy.special import softmax

from unlearn.api.metrics import Evidence, Metric, Row, Rows

METRICS = {"calibration_error": Metric("expected calibration error", "match_retrain", 0, 1)}

BINS = 15


def calibration_error(labels: np.ndarray, logits: np.ndarray) -> float:
    """Of ``labels`` [N] and ``logits`` [N, C].

    >>> round(calibration_error(np.array([0, 1]), np.log([[0.75, 0.25], [0.75, 0.25]])), 9)
    0.25
    """
    probability = softmax(logits.astype(np.float64), axis=1).max(1)
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probability)
    excess = np.bincount(place, weights=(logits.argmax(1) == labels) - probability)
    return float(np.abs(excess).sum() / len(labels))


def compute(run: Evidence) -> Rows:
    """Per role; n counts images."""
    for role in ("forget", "retain", "test"):
        labels, logits = run.of_role(role)
        yield Row("calibration_error", calibration_error(labels, logits), len(labels), role=role)
