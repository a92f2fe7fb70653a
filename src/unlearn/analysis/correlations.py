"""Does a larger fairness-gap go with a larger loss under attack? (Tran & Woo 2025, the conjecture.)

Rank correlations over the runs of one architecture, controls included. Runs of one seed share their
pretrained model, so seeds are clusters: the interval is a percentile bootstrap over seeds with all
their runs (none with one seed, rough with a few), and p comes from permuting runs within their seed.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from unlearn.analysis.comparisons import AnalysisError

PARTS = ("mean", "first", "intermediate", "last")
X = tuple(f"{prefix}fairness_gap_{part}" for prefix in ("", "relative_") for part in PARTS)
Y = ("robustness_drop", "aurc")
CONTROL = "ta"
RUN = ["arch", "forget", "method", "scope", "seed"]
COLUMNS = ["arch", "x", "y", "attack", "eps", "role", "statistic", "coefficient", "low", "high", "p", "n", "seeds"]
FEWEST = 4  # runs without which nothing is said
EQUAL = 1e-9  # coefficients that differ by less are the same: sums in another order
BLOCK = 10**7  # pairs of runs that are permuted at a time: 120 MB

Outcome = tuple[np.ndarray, np.ndarray, np.ndarray]  # coefficients [J], of samples [U, J], of permutations [R, J]


class Clusters:
    """What becomes of n runs, ``seeds`` [n], under resampling and permutation.

    ``permutations`` [R, n] are indices that stay within a seed. A bootstrap sample holds each seed a
    number of times; few seeds have few ``distinct`` samples [U, S], of which ``drawn`` [R] are indices.
    """

    def __init__(self, seeds: np.ndarray, resamples: int, seed: int):
        names, codes = np.unique(seeds, return_inverse=True)
        rng = np.random.default_rng(seed)
        draws = rng.integers(len(names), size=(resamples, len(names)))
        counts = (draws[:, :, None] == np.arange(len(names))).sum(1)
        self.distinct, self.drawn = np.unique(counts, axis=0, return_inverse=True)
        self.member = np.eye(len(names))[codes]
        self.weights = self.distinct @ self.member.T
        self.permutations = np.tile(np.arange(len(codes)), (resamples, 1))
        for code in range(len(names)):
            runs = np.flatnonzero(codes == code)
            self.permutations[:, runs] = rng.permuted(self.permutations[:, runs], axis=1)

    def counted(self, pairs: np.ndarray) -> np.ndarray:
        """Sum of a matrix over pairs of runs [n, n] in each distinct sample [U]."""
        between = self.member.T @ pairs @ self.member
        return ((self.distinct @ between) * self.distinct).sum(1)

    def interval(self, resampled: np.ndarray, confidence: float) -> tuple[float, float]:
        """Percentiles of the coefficients [U] of the distinct samples; NaN with one seed."""
        if len(self.distinct) < 2 or not np.isfinite(resampled).any():
            return np.nan, np.nan
        low, high = np.nanquantile(resampled[self.drawn], [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)


class Column:
    """A quantity [n] measured on the runs of ``clusters``."""

    def __init__(self, values: np.ndarray, clusters: Clusters):
        self.values, self.clusters = np.asarray(values, float), clusters

    @cached_property
    def ranks(self) -> np.ndarray:
        """Midranks [n], centred, of length 1; NaN if constant."""
        ranks = rankdata(self.values)
        return _unit(ranks - ranks.mean())

    @cached_property
    def resampled(self) -> np.ndarray:
        """Midranks within each distinct sample [U, n], centred, times the root of the weights, of length 1."""
        weights = self.clusters.weights
        below = (np.sign(self.values[:, None] - self.values) + 1) / 2
        ranks = weights @ below.T
        mean = (weights * ranks).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
        return _unit(np.sqrt(weights) * (ranks - mean))

    @cached_property
    def signs(self) -> np.ndarray:
        """Of the differences between runs, [n, n]; float32 counts them exactly up to 4096 runs."""
        return np.sign(self.values[:, None] - self.values).astype(np.float32)


def spearman(xs: list[Column], y: Column) -> Outcome:
    """Spearman's rank correlation of J columns with y.

    >>> runs = Clusters(np.array([0, 0, 0]), 100, 0)
    >>> spearman([Column([1, 2, 3], runs), Column([1, 3, 2], runs)], Column([10, 100, 1000], runs))[0].round(9)
    array([1. , 0.5])
    """
    of_x = np.stack([x.ranks for x in xs], axis=1)
    resampled = [(x.resampled * y.resampled).sum(1) for x in xs]
    return y.ranks @ of_x, np.stack(resampled, axis=1), y.ranks[y.clusters.permutations] @ of_x


def partial_spearman(xs: list[Column], y: Column, z: Column) -> Outcome:
    """Correlation of what lines in the ranks of z leave of the ranks of J columns and of those of y.

    The residuals of y are permuted, since y is not exchangeable where z matters (Freedman & Lane 1983).

    >>> runs = Clusters(np.array([0, 0, 0, 0]), 100, 0)
    >>> x, y, z = (Column(v, runs) for v in ([1, 2, 3, 4], [1, 3, 2, 4], [1, 2, 4, 3]))
    >>> partial_spearman([x], y, z)[0].round(9)  # (0.8 - 0.8 * 0.4) / (0.6 * sqrt(1 - 0.4 ** 2))
    array([0.87287156])
    """
    of_x = np.stack([_unit(x.ranks - (x.ranks @ z.ranks) * z.ranks) for x in xs], axis=1)
    of_y = _unit(y.ranks - (y.ranks @ z.ranks) * z.ranks)
    permuted = of_y[y.clusters.permutations]
    left = _root(1 - (permuted @ z.ranks) ** 2)
    yz, resampled = (y.resampled * z.resampled).sum(1), []
    for x in xs:
        xy, xz = ((x.resampled * other.resampled).sum(1) for other in (y, z))
        resampled.append((xy - xz * yz) / (_root(1 - xz**2) * _root(1 - yz**2)))
    return of_y @ of_x, np.stack(resampled, axis=1), permuted @ of_x / left[:, None]


def kendall(xs: list[Column], y: Column) -> Outcome:
    """Kendall's tau-b of J columns with y, from the signs of the differences between runs.

    >>> runs = Clusters(np.array([0, 0, 0]), 100, 0)
    >>> kendall([Column([1, 2, 3], runs)], Column([1, 3, 2], runs))[0].round(9)
    array([0.33333333])
    """
    clusters = y.clusters
    of_x = np.stack([x.signs.ravel() for x in xs], axis=1)
    size = _root((of_x**2).sum(0, dtype=float) * (y.signs**2).sum(dtype=float))
    untied = clusters.counted(y.signs**2)
    resampled = [
        clusters.counted(x.signs * y.signs) / (_root(clusters.counted(x.signs**2)) * _root(untied)) for x in xs
    ]
    permuted = np.empty((len(clusters.permutations), len(xs)))
    step = max(1, BLOCK // y.signs.size)
    for start in range(0, len(permuted), step):
        moved = y.ranks[clusters.permutations[start : start + step]]
        # Signs are antisymmetric: their product sums to twice that over the pairs where y is larger.
        larger = (moved[:, :, None] > moved[:, None, :]).reshape(len(moved), -1).astype(np.float32)
        permuted[start : start + step] = larger @ (2 * of_x)
    return (y.signs.ravel() @ of_x) / size, np.stack(resampled, axis=1), permuted / size


def summaries(outcome: Outcome, clusters: Clusters, confidence: float) -> list[tuple[float | None, ...]]:
    """(coefficient, low, high, two-sided p) of J columns; all None for a constant side or fewer than four runs."""
    found = []
    for coefficient, resampled, permuted in zip(outcome[0], outcome[1].T, outcome[2].T, strict=True):
        if len(clusters.member) < FEWEST or not np.isfinite(coefficient):
            found.append((None, None, None, None))
            continue
        extreme = ~(np.abs(permuted) < abs(coefficient) - EQUAL)
        p = float((extreme.sum() + 1) / (len(permuted) + 1))
        low, high = (None if np.isnan(end) else end for end in clusters.interval(resampled, confidence))
        found.append((round(float(coefficient), 12), low, high, p))
    return found


def correlate(
    metrics: pd.DataFrame, confidence: float, resamples: int, seed: int, headlines: Mapping[str, float]
) -> pd.DataFrame:
    """Rows of the correlations table: per architecture, role measured on both sides, x and y.

    Spearman's coefficient at all radii; at the attack's radius in ``headlines``, and for what has no
    radius, also Kendall's and that at equal clean test accuracy, if it was measured.

    A run for which one of these values is null is left out; n counts the others.

    Raises AnalysisError naming a run that lacks what others of its architecture have.
    """
    metrics = metrics[metrics["metric"].isin([*X, *Y, CONTROL])]
    found = []
    for (arch, role), of_role in metrics.dropna(subset="role").groupby(["arch", "role"], sort=False):
        if not of_role["metric"].isin(X).any() or not of_role["metric"].isin(Y).any():
            continue
        control = metrics[(metrics["arch"] == arch) & (metrics["metric"] == CONTROL)]
        seeds, values = _measured(pd.concat([of_role, control]))
        clusters = Clusters(seeds, resamples, seed)
        columns = {key: Column(value, clusters) for key, value in values.items()}
        xs, ys, zs = ([key for key in columns if key[0] in names] for names in (X, Y, [CONTROL]))
        of_x = [columns[x] for x in xs]
        for y in ys:
            functions = {"spearman": (spearman, of_x, columns[y])}
            if y[2] in (headlines[y[1]], None):
                functions["kendall"] = kendall, of_x, columns[y]
                if zs:
                    functions["partial_spearman"] = partial_spearman, of_x, columns[y], columns[zs[0]]
            for statistic, (function, *sides) in functions.items():
                summary = [(None,) * 4] * len(xs)
                if len(seeds) >= FEWEST:
                    summary = summaries(function(*sides), clusters, confidence)
                for x, row in zip(xs, summary, strict=True):
                    found.append((arch, x[0], *y, role, statistic, *row, *clusters.member.shape))
    return pd.DataFrame(found, columns=COLUMNS).astype(
        {"attack": "string", **dict.fromkeys(["eps", "coefficient", "low", "high", "p"], float)}
    )


def _measured(metrics: pd.DataFrame) -> tuple[np.ndarray, dict[tuple, np.ndarray]]:
    """Seeds of the n runs that have all values, in one order; (metric, attack, eps) → values [n]."""
    runs, columns = (metrics.groupby(names, dropna=False) for names in (RUN, ["metric", "attack", "eps"]))
    values = np.full((runs.ngroups, columns.ngroups), np.nan)
    measured = np.zeros(values.shape, bool)
    values[runs.ngroup(), columns.ngroup()] = metrics["value"]
    measured[runs.ngroup(), columns.ngroup()] = True
    identity = [tuple(None if pd.isna(part) else part for part in key) for key in columns.groups]
    if (missing := np.argwhere(~measured)).size:
        run, column = missing[0]
        raise AnalysisError(f"no {identity[column][0]} for {', '.join(map(str, list(runs.groups)[run]))}")
    known = ~np.isnan(values).any(axis=1)
    return np.array([run[-1] for run in runs.groups])[known], dict(zip(identity, values[known].T, strict=True))


def _unit(values: np.ndarray) -> np.ndarray:
    """Rows of length 1; NaN where a row is 0 up to rounding."""
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(length > EQUAL, length, np.nan)


def _root(values: np.ndarray) -> np.ndarray:
    """Square root; NaN where the value is 0 up to rounding."""
    return np.sqrt(np.where(values > EQUAL, values, np.nan))
