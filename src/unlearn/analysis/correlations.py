"""Does a larger fairness-gap go with a larger loss under attack? (Tran & Woo 2025, the conjecture.)

Spearman's rank correlation over the runs of one architecture, with a percentile bootstrap interval
and a two-sided permutation p. Runs that share a seed are not independent: the interval is an
optimistic one until seeds are treated as clusters.
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

X = ("fairness_gap_mean", "relative_fairness_gap_mean")
Y = "robustness_drop"
RUN = ["arch", "forget", "method", "scope", "seed"]


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation along the last axis; NaN where one side is constant.

    >>> spearman(np.array([1, 2, 3]), np.array([10, 100, 1000]))
    array(1.)
    """
    a, b = (rankdata(v, axis=-1) - (v.shape[-1] + 1) / 2 for v in (x, y))
    with np.errstate(invalid="ignore"):
        r = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.asarray(np.round(r, 12))


def resampled(x: np.ndarray, y: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float | None, ...]:
    """(coefficient, low, high, p); all None for fewer than four runs or a constant side."""
    coefficient = spearman(x, y)
    if len(x) < 4 or not np.isfinite(coefficient):
        return None, None, None, None
    rng = np.random.default_rng(seed)
    index = rng.integers(len(x), size=(resamples, len(x)))
    low, high = np.nanquantile(spearman(x[index], y[index]), [(1 - confidence) / 2, (1 + confidence) / 2])
    shuffled = rng.permuted(np.tile(y, (resamples, 1)), axis=1)
    extreme = np.abs(spearman(np.broadcast_to(x, shuffled.shape), shuffled)) >= abs(coefficient) - 1e-12
    return float(coefficient), float(low), float(high), float((extreme.sum() + 1) / (resamples + 1))


def correlate(metrics: pd.DataFrame, confidence: float, resamples: int, seed: int) -> pd.DataFrame:
    """Rows of the correlations table: per architecture, attack, radius and role measured on both sides."""
    wide_x = metrics[metrics["metric"].isin(X)]
    of_y = metrics[metrics["metric"] == Y]
    found = []
    for (arch, attack, eps, role), group in of_y.groupby(["arch", "attack", "eps", "role"], sort=False):
        for name in X:
            side = wide_x[(wide_x["metric"] == name) & (wide_x["role"] == role)]
            pairs = group.merge(side[[*RUN, "value"]], on=RUN, suffixes=("_y", "_x"))
            if len(pairs):
                x, y = pairs["value_x"].to_numpy(float), pairs["value_y"].to_numpy(float)
                found.append(
                    (arch, name, Y, attack, eps, role, *resampled(x, y, confidence, resamples, seed), len(pairs))
                )
    columns = ["arch", "x", "y", "attack", "eps", "role", "coefficient", "low", "high", "p", "n"]
    return pd.DataFrame(found, columns=columns).astype(dict.fromkeys(["coefficient", "low", "high", "p"], float))
