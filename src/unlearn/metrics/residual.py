"""Residual recognition: forgotten images that a small perturbation makes the model recognise again.

Minus the same of exact retraining. Hsu et al. 2025 (arXiv:2601.22359). Shares are of all attacked forget
images, those recognised without any perturbation included, at each radius of an attack that aims to recover
labels. Models that never saw an image can be made to recognise it too, so the share itself means nothing.
"""

from unlearn.api.metrics import Evidence, Metric, MetricError, References, Row, Rows
from unlearn.metrics.robust_accuracy import robust_share

ATTACKS = ("recover",)
METRICS = {
    "recognition": Metric("recognised within eps", "match_retrain", 0, 1),
    "residual_recognition": Metric("recognised within eps - retrain's", "match_retrain", -1, 1),
}

KEYS = ["role", "attack", "eps"]


def compute(run: Evidence) -> Rows:
    """Nothing where no attack of the study aims to recover labels."""
    for (attack, role), images in run.recovery.groupby(["attack", "role"], sort=False):
        grid = run.grids[attack]
        shares = 1 - robust_share(images["eps"].to_numpy(float), grid)
        for eps, value in zip((0.0, *grid), map(float, shares), strict=True):
            yield Row("recognition", value, len(images), role=role, attack=attack, eps=eps)


def compute_relative(run: Evidence, references: References) -> Rows:
    own, other = (e.metrics[e.metrics["metric"] == "recognition"].set_index(KEYS) for e in (run, references.retrain))
    if set(own.index) != set(other.index):
        raise MetricError("the reference was attacked with other attacks, radii or roles")
    for keys, row in own.iterrows():
        value = float(row["value"] - other.loc[keys, "value"])
        yield Row("residual_recognition", value, int(row["n"]), **dict(zip(KEYS, keys, strict=True)))
