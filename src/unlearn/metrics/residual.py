"""Residual recognition: forgotten images that the model recognises again after a small perturbation.

Hsu et al. 2025 (arXiv:2601.22359). The share of all attacked forget images that are recognised at each radius of an
attack that aims to recover labels, those recognised without any perturbation included, minus the same share of exact
retraining. The difference is the metric, since a model that never saw an image can be made to recognise it too.
``residual_ratio`` is the quotient of the two shares, 1 for exact retraining. The paper's residual knowledge r_tau is
such a quotient: the probability that the unlearned model recognises a random perturbation of size tau, divided by the
retrained model's. Here the perturbations are those that an attack finds, so both shares are larger.
"""

import math

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows, paired
from unlearn.metrics.robust_accuracy import robust_share

ATTACKS = ("recover",)
METRICS = {
    "recognition": Metric("recognised within eps", "match_retrain", 0, 1),
    "residual_recognition": Metric("recognised within eps - retrain's", "match_retrain", -1, 1),
    "residual_ratio": Metric("recognised within eps / retrain's", "match_retrain", 0),
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
        if exact == 0:
            reason = reason or "exact retraining recognises no image within eps"
        yield Row("residual_ratio", own / exact if exact else math.nan, n, **keys, reason=reason)
