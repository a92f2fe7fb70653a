"""Residual recognition: forgotten images that the model recognises again after a small perturbation.

Hsu et al. 2025 (arXiv:2601.22359). The share of all attacked forget images that are recognised at each radius of an
attack that aims to recover labels, those recognised without any perturbation included, minus the same share of exact
retraining. The difference is the metric, since a model that never saw an image can be made to recognise it too.
"""

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows, paired
from unlearn.metrics.robust_accuracy import robust_share

ATTACKS = ("recover",)
METRICS = {
    "recognition": Metric("recognised within eps", "match_retrain", 0, 1),
    "residual_recognition": Metric("recognised within eps - retrain's", "match_retrain", -1, 1),
}


def compute(run: Evidence) -> Rows:
    """Per radius; n counts forget images. No rows if no attack of the study aims to recover labels."""
    for (attack, role), images in run.recovery.groupby(["attack", "role"], sort=False):
        radii = run.radii[attack]
        shares = 1 - robust_share(images["eps"].to_numpy(float), radii)
        for eps, value in zip((0.0, *radii), map(float, shares), strict=True):
            yield Row("recognition", value, len(images), role=role, attack=attack, eps=eps)


def compute_relative(run: Evidence, references: References) -> Rows:
    """Per radius; n as in ``compute``. Raises MetricError if the reference was attacked otherwise."""
    for keys, own, exact, n, reason in paired(run, references.retrain, "recognition", ["role", "attack", "eps"]):
        yield Row("residual_recognition", own - exact, n, **keys, reason=reason)
