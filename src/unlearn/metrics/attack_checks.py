"""What the gates hold an attack's numbers against: its perturbations, and how its images were fooled.

Carlini et al. 2019 (arXiv:1902.06705, §5) and the flags of AutoAttack (Croce & Hein 2020). A cross-entropy
attack finds nothing where logits are so large that the loss underflows; ``gradient_masking`` is the largest share of
images, over the radii, that withstood the members of an ensemble that follow the cross-entropy and not
the others at the same radius. No gate asks for it: it says how far the gate ``losses`` would be off by, within
one attack.
"""

import numpy as np
from scipy.special import logsumexp

from unlearn.api.metrics import Evidence, Metric, Row, Rows

METRICS = {
    "perturbation": Metric("largest perturbation / radius", "min", 0),
    "out_of_range": Metric("excess over [0, 1]", "min", 0),
    "not_finite": Metric("perturbations that are no numbers", "min", 0, 1),
    "gradient_masking": Metric("fooled only without cross-entropy", "min", 0, 1),
    "normalized_outputs": Metric("outputs that are no logits", "min", 0, 1),
}

CROSS_ENTROPY = ("fgsm", "apgd_ce", "pgd", "pgd_l2")


def normalized(logits: np.ndarray) -> float:
    """Share of rows that are probabilities or their logarithms instead of logits.

    >>> normalized(np.array([[0.5, 0.5], [0.0, 0.0]]))
    0.5
    """
    probabilities = (logits.min(1) >= 0) & (np.abs(logits.sum(1) - 1) < 1e-4)
    return float((probabilities | (np.abs(logsumexp(logits.astype(float), axis=1)) < 1e-4)).mean())


def compute(run: Evidence) -> Rows:
    yield Row("normalized_outputs", normalized(run.logits), len(run.logits))
    for attack, checks in run.checks.items():
        for metric, key in (("perturbation", "norm"), ("out_of_range", "range")):
            yield Row(metric, float(checks[key]), 1, attack=attack)
        yield Row("not_finite", float(not checks["finite"]), 1, attack=attack)
    attacked = run.adversarial[run.counted(run.adversarial)]
    for (attack, role), images in attacked.groupby(["attack", "role"], sort=False):
        if set(run.checks[attack]["members"]) - set(CROSS_ENTROPY) and len(run.checks[attack]["members"]) > 1:
            other = images[images["by"].notna() & ~images["by"].isin(CROSS_ENTROPY)]
            worst = other.groupby("eps").size().max() if len(other) else 0
            yield Row("gradient_masking", float(worst / len(images)), len(images), role=role, attack=attack)
