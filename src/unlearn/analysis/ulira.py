"""U-LiRA: can an attacker tell an image that was forgotten from one that was never seen?

Hayes et al. 2024, "Inexact Unlearning Needs More Careful Evaluations" (arXiv:2403.01218): a test per image. All
models run the same method. The image's scores in models that learned and then forgot it (U) give one Gaussian, those in
models that never saw it (R) another; the statistic of a model's score is log N_U - log N_R. AUC 0.5 is perfect
forgetting, which exact retraining reaches by definition.

Every model is judged by Gaussians of the *other* models: a Gaussian that is fitted with the model's own score lies
closer to it, which finds membership where there is none. An image of a model is left out if fewer than two other models
are on one of the sides. That depends on the other models alone, and shadows are drawn independently, so what is left
out does not depend on the answer.

Intervals are those of the jackknife over models: each is left out of everything once. A bootstrap of the models'
statistics ignores that they share their Gaussians: with 16 models and nothing to find, its 95 % intervals held 0.5 in
19 of 24 simulations, and in 13 where models differ in their mean score. The jackknife's held it in all of 60, where
they are up to twice too wide; at AUC 0.6 they held the truth in 95 to 98 %.
"""

import numpy as np
import pandas as pd
from scipy import stats

from unlearn.analysis.comparisons import AnalysisError
from unlearn.io.columns import SHADOWED_KEY

FEWEST = 2  # models on each side that judge an image
FALSE_POSITIVES = (0.01, 0.001)
SMALLEST_DEVIATION = 1e-6  # in units of a logit: the resolution of a float32 logit of 10


def attack(shadows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rows of the ulira table from the shadow tables of one method and scope.

    ``n`` and ``left_out`` count pairs of a model and an image that it forgot or never saw.

    Raises AnalysisError for more than one method and scope, for models that do not cover the same images, and for too
    few models to judge one of them by the others.
    """
    cell = shadows[list(SHADOWED_KEY)].drop_duplicates()
    if len(cell) != 1:
        raise AnalysisError(f"shadows of {len(cell)} methods and scopes, must be of one")
    where = ", ".join(cell.iloc[0])
    score, status = (shadows.pivot(index="shadow", columns="id", values=column) for column in ("score", "status"))
    if score.isna().any(axis=None):
        raise AnalysisError(f"{where}: the shadows do not cover the same images")
    models = score.to_numpy(), status.to_numpy() == "forgotten", status.to_numpy() == "unseen"
    try:
        value, n = estimate(*models)
        without = [estimate(*(np.delete(part, k, axis=0) for part in models))[0] for k in range(len(score))]
    except AnalysisError as error:
        raise AnalysisError(f"{where}: {error}") from None
    value = pd.Series(value).rename_axis("statistic")
    half = stats.t.ppf((1 + confidence) / 2, len(score) - 1) * jackknife(pd.DataFrame(without))
    rows = pd.DataFrame({"value": value, "low": (value - half).clip(0), "high": (value + half).clip(upper=1)})
    rows.loc[rows.index.str.startswith("tpr_"), ["low", "high"]] = np.nan
    return rows.reset_index().assign(**cell.iloc[0], n=n, left_out=models[1].sum() + models[2].sum() - n)


def jackknife(without: pd.DataFrame) -> pd.Series:
    """Standard errors from the estimates [K, ...] without each of K models.

    >>> means = pd.Series([4.0, 3.5, 1.5])  # of 1, 2 and 6 without one of them
    >>> bool(np.isclose(jackknife(means), stats.sem([1, 2, 6])))
    True
    """
    return np.sqrt((len(without) - 1) ** 2 / len(without) * without.var())


def estimate(score: np.ndarray, forgotten: np.ndarray, unseen: np.ndarray) -> tuple[dict[str, float], int]:
    """The attack's measures, and the number of scores that they are computed from, for scores and statuses [K, N] of K
    models and N images. Raises AnalysisError if no image has enough models on both sides."""
    statistic, scored = log_ratio(score, forgotten, unseen)
    if not (scored & forgotten).any() or not (scored & unseen).any():
        raise AnalysisError(f"{len(score)} shadows are too few: no image has one to judge and {FEWEST} on each side")
    order = np.argsort(-statistic[scored])
    return measures(statistic[scored][order], forgotten[scored][order]), int(scored.sum())


def log_ratio(score: np.ndarray, forgotten: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log N_U - log N_R [K, N] of every model's score, and where it counts [K, N], for K models and N images. Each
    model is judged by Gaussians of the others.

    Means and variance are those of the image, but U and R share the variance, around their two means: with 16 shadows
    an image has about four values in U, whose own variance would be noise. (In a simulation with a signal of one
    deviation and 16 shadows the AUC was 0.71; 0.66 with a variance per image and side; with one per side for all images
    0.72 where images are alike, 0.68 where they are not.) The deviation is at least SMALLEST_DEVIATION, so that
    densities are finite where scores agree.
    """
    score = score - score[0]  # so that sums of squares lose no digits to an image's level
    (n_u, mean_u, squares_u), (n_r, mean_r, squares_r) = (of_others(score, side) for side in (forgotten, unseen))
    variance = np.maximum((squares_u + squares_r) / np.maximum(n_u + n_r - 2, 1), SMALLEST_DEVIATION**2)
    ratio = ((score - mean_r) ** 2 - (score - mean_u) ** 2) / (2 * variance)
    return ratio, (forgotten | unseen) & (n_u >= FEWEST) & (n_r >= FEWEST)


def of_others(score: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number, mean and sum of squares around the mean, each [K, N], of an image's ``chosen`` scores
    [K, N] in the models other than k."""
    value = np.where(chosen, score, 0)
    count = chosen.sum(0) - chosen
    mean = (value.sum(0) - value) / np.maximum(count, 1)
    return count, mean, np.square(value).sum(0) - np.square(value) - count * np.square(mean)


def measures(statistic: np.ndarray, forgotten: np.ndarray) -> dict[str, float]:
    """AUC, balanced accuracy at 0, and true-positive rate at low false-positive rates of points [P] in
    descending order of their ``statistic``. No threshold separates ties.

    >>> values = measures(np.array([2, 1, -1]), np.array([True, False, True]))
    >>> {name: float(value) for name, value in values.items()}
    {'auc': 0.5, 'balanced_accuracy': 0.25, 'tpr_at_fpr_0.01': 0.5, 'tpr_at_fpr_0.001': 0.5}
    """
    last = np.append(np.diff(statistic) != 0, True)
    tpr, fpr = (np.append(0, np.cumsum(side)[last]) / side.sum() for side in (forgotten, ~forgotten))
    hit, false = ((statistic[side] > 0).mean() for side in (forgotten, ~forgotten))
    return {
        "auc": np.trapezoid(tpr, fpr),
        "balanced_accuracy": (hit + 1 - false) / 2,
        **{f"tpr_at_fpr_{level}": tpr[fpr <= level].max() for level in FALSE_POSITIVES},
    }
