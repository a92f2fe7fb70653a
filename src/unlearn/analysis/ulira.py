"""U-LiRA: can an attacker tell an image that was forgotten from one that was never seen?

Hayes et al. 2024, "Inexact Unlearning Needs More Careful Evaluations" (arXiv:2403.01218): a test per
image. Its scores in models that learned and then forgot it (U) and in models that never saw it (R),
all of which ran the same method, give two Gaussians; the statistic of a model's score is
log N_U - log N_R. AUC 0.5 is perfect forgetting, which exact retraining reaches by definition.

Every model is judged by Gaussians of the *other* models: those that a model was fitted with are drawn
to its own score, which finds membership where there is none. An image of a model is left out if fewer
than two other models stand on a side. That looks at the other models alone, and shadows are drawn
independently, so what is left out does not depend on the answer.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from unlearn.analysis.comparisons import AnalysisError
from unlearn.tables import SHADOWED_KEY

ENOUGH = 2
FALSE_POSITIVES = (0.01, 0.001)
FLOOR = 1e-6  # of a deviation, in units of a logit: about the resolution of a float32 logit of 10


def attack(shadows: pd.DataFrame, confidence: float, resamples: int, seed: int) -> pd.DataFrame:
    """Rows of the ulira table from the shadow tables of one method and scope.

    Intervals are percentiles of a bootstrap over shadow models, since a model's scores hang together.
    ``n`` and ``left_out`` count pairs of a model and an image that it forgot or never saw.

    Raises AnalysisError for more than one method and scope, for models that do not cover the same
    images, and for a model none of whose images has enough other models on both sides.
    """
    cell = shadows[list(SHADOWED_KEY)].drop_duplicates()
    if len(cell) != 1:
        raise AnalysisError(f"shadows of {len(cell)} methods and scopes, must be of one")
    wide = shadows.pivot(index="shadow", columns="id", values=["score", "status"])
    if wide.isna().any(axis=None):
        raise AnalysisError(f"{_name(cell)}: the shadows do not cover the same images")
    score, status = wide["score"].to_numpy(float), wide["status"].to_numpy()
    forgotten, unseen = status == "forgotten", status == "unseen"
    statistic, scored = log_ratio(score, forgotten, unseen)
    usable = (scored & forgotten).any(1) & (scored & unseen).any(1)
    if not usable.all():
        raise AnalysisError(
            f"{_name(cell)}: too few shadows; no image that shadow {wide.index[~usable][0]} forgot, or none that it "
            f"never saw, was forgotten by {ENOUGH} others and unseen by {ENOUGH}"
        )

    order = np.argsort(-statistic[scored])
    points = statistic[scored][order], forgotten[scored][order]
    model = np.nonzero(scored)[0][order]
    value = measures(*points, np.ones(len(model)))
    draws = np.random.default_rng(seed).multinomial(len(score), np.full(len(score), 1 / len(score)), resamples)
    spread = pd.DataFrame(measures(*points, drawn[model]) for drawn in draws)
    low, high = (spread.quantile(q) for q in ((1 - confidence) / 2, (1 + confidence) / 2))
    rows = pd.DataFrame({"value": value, "low": low, "high": high}).rename_axis("statistic").reset_index()
    counts = {"n": scored.sum(), "left_out": (forgotten | unseen).sum() - scored.sum()}
    return rows.assign(**cell.iloc[0], **counts)


def log_ratio(score: np.ndarray, forgotten: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log N_U - log N_R [K, N] of every model's score, and where it counts [K, N], for K models and N
    images. Each model is judged by Gaussians of the others.

    The means are the image's own. So is the variance, but U and R share it, around their two means:
    with 16 shadows an image has about four values in U, whose own variance would be noise. (In a
    simulation with a signal of one deviation and 16 shadows the AUC was 0.71; 0.66 with a variance per
    image and side; with one per side for all images 0.72 where images are alike, 0.68 where they are not.)
    The deviation is at least FLOOR, so that densities stay finite where scores agree.
    """
    found, scored = np.zeros(score.shape), np.zeros(score.shape, bool)
    for k in range(len(score)):
        others = np.arange(len(score)) != k
        n_u, mean_u, squares_u = moments(score[others], forgotten[others])
        n_r, mean_r, squares_r = moments(score[others], unseen[others])
        variance = (squares_u + squares_r) / np.maximum(n_u + n_r - 2, 1)
        deviation = np.maximum(np.sqrt(variance), FLOOR)
        found[k] = norm.logpdf(score[k], mean_u, deviation) - norm.logpdf(score[k], mean_r, deviation)
        scored[k] = (forgotten[k] | unseen[k]) & (n_u >= ENOUGH) & (n_r >= ENOUGH)
    return found, scored


def moments(score: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per image the number, mean and sum of squares around the mean [N] of the ``chosen`` scores [K, N]."""
    count = chosen.sum(0)
    mean = np.where(chosen, score, 0).sum(0) / np.maximum(count, 1)
    return count, mean, np.square(np.where(chosen, score - mean, 0)).sum(0)


def measures(statistic: np.ndarray, forgotten: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """AUC, balanced accuracy at 0, and true-positive rate at low false-positive rates of points [P]
    with a ``weight``, in descending order of their ``statistic``. No threshold separates ties.

    >>> found = measures(np.array([2, 1, -1]), np.array([True, False, True]), np.ones(3))
    >>> {name: float(value) for name, value in found.items()}
    {'auc': 0.5, 'balanced_accuracy': 0.25, 'tpr_at_fpr_0.01': 0.5, 'tpr_at_fpr_0.001': 0.5}
    """
    last = np.append(np.diff(statistic) != 0, True)
    sides = weight * forgotten, weight * ~forgotten
    tpr, fpr = (np.append(0, np.cumsum(side)[last]) / side.sum() for side in sides)
    hit, false = (side[statistic > 0].sum() / side.sum() for side in sides)
    return {
        "auc": np.trapezoid(tpr, fpr),
        "balanced_accuracy": (hit + 1 - false) / 2,
        **{f"tpr_at_fpr_{level}": tpr[fpr <= level].max() for level in FALSE_POSITIVES},
    }


def _name(cell: pd.DataFrame) -> str:
    return ", ".join(cell.iloc[0])
