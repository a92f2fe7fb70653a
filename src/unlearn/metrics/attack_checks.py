"""What the gates check of an attack: its perturbations, and how it fooled the images.

Carlini et al. 2019 (arXiv:1902.06705, §5) and the flags of AutoAttack (Croce & Hein 2020). An attack on the
cross-entropy has no gradient to follow where logits are so large that the loss underflows. ``gradient_masking``, for an
attack that is an ensemble, is the largest share of images, over the radii, that only members without cross-entropy
fooled at that radius. No gate uses it: it shows within one attack what the gate ``losses`` compares between two.
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
    logits = logits.astype(float)  # float32 sums overflow
    probabilities = (logits.min(1) >= 0) & (np.abs(logits.sum(1) - 1) < 1e-4)
    return float((probabilities | (np.abs(logsumexp(logits, axis=1)) < 1e-4)).mean())


def compute(run: Evidence) -> Rows:
    """n counts images, and is 1 for what an attack recorded as a whole."""
    yield Row("normalized_outputs", normalized(run.logits), len(run.logits))
    for attack, checks in run.checks.items():
        for metric, key in (("perturbation", "norm"), ("out_of_range", "range")):
            yield Row(metric, float(checks[key]), 1, attack=attack)
        yield Row("not_finite", float(not checks["finite"]), 1, attack=attack)
    attacked = run.adversarial[run.counted(run.adversarial)]
    for (attack, role), images in attacked.groupby(["attack", "role"], sort=False):
        members = set(run.checks[attack]["members"])
        if len(members) > 1 and members - set(CROSS_ENTROPY):
            other = images[images["by"].notna() & ~images["by"].isin(CROSS_ENTROPY)]
            worst = other.groupby("eps").size().max() if len(other) else 0
            yield Row("gradient_masking", float(worst / len(images)), len(images), role=role, attack=attack)
