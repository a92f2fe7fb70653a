"""Relearning: how well a model recognises forgotten images after it has learned a few of them again.

A model that only seems to have forgotten learns again faster than one that never saw the images: the relearn time of
Golatkar et al. 2020 (arXiv:1911.04933). Here a few images of each class in the forget set are relearned, beside as many
retained ones of each class (``settings.relearn``), and accuracy is measured on the rest of the forget set: an attacker
who has a few images of a forgotten class wants the others back (arXiv:2506.01318, whose attack uses prototypes instead
of gradient steps). Accuracy is known before the first step and after 1, 2, 4, … steps.

``relearn_area`` is the area under that curve from step 1 to the last, by trapezoids over log2(step), divided by the
length of that axis: the early steps tell models apart, and none has to be chosen. ``relearn_excess`` is the area minus
that of exact retraining. It is positive where the model kept something of the forgotten images, be it visible before
relearning (``relearn_start``) or not.
"""

import numpy as np

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows, no_value, why

NEEDS = ("relearning",)
METRICS = {
    "relearn_start": Metric("accuracy before relearning", "match_retrain", 0, 1),
    "relearn_end": Metric("accuracy after relearning", "match_retrain", 0, 1),
    "relearn_area": Metric("accuracy while relearning", "match_retrain", 0, 1),
    "relearn_excess": Metric("accuracy while relearning - retrain's", "match_retrain", -1, 1),
}


def area(steps: np.ndarray, shares: np.ndarray) -> float:
    """Mean over log2(step) of the ``shares`` [S] after ``steps`` [S], ascending from 1, by trapezoids.

    >>> area(np.array([1, 2, 8]), np.array([0.0, 0.5, 1.0]))
    0.5833333333333334
    """
    return float(np.trapezoid(shares, np.log2(steps)) / np.log2(steps[-1]))


def compute(run: Evidence) -> Rows:
    """n counts the images that accuracy is measured on."""
    curve = run.relearning.sort_values("step")
    if curve.empty:
        reason = "no class has two forgotten images, one to relearn and one to test"
        yield from (no_value(name, reason) for name in ("relearn_start", "relearn_end", "relearn_area"))
        return
    shares, n = curve["accuracy"].to_numpy(), int(curve["n"].iloc[0])
    yield Row("relearn_start", float(shares[0]), n)
    yield Row("relearn_end", float(shares[-1]), n)
    yield Row("relearn_area", area(curve["step"].to_numpy()[1:], shares[1:]), n)


def compute_relative(run: Evidence, references: References) -> Rows:
    """n as in ``compute``."""
    excess = run.value("relearn_area") - references.retrain.value("relearn_area")
    n = 0 if run.relearning.empty else int(run.relearning["n"].iloc[0])
    yield Row("relearn_excess", excess, n, reason=why(run, references.retrain, "relearn_area"))
