"""Does a larger fairness-gap go with a larger loss under attack? (Tran & Woo 2025.)

Rank correlations over the *cells* (forget set, method, scope) of one architecture, controls included; the value of a
cell is its mean over seeds. Neither what the runs of a seed have in common nor what the runs of a method have in
common is evidence for a relation. So p permutes cells with all their seeds, and the interval is a percentile
bootstrap that resamples cells and seeds (two-way). ``benchmarks/verdicts.py`` measures both on studies without a
relation.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from unlearn.analysis.comparisons import AnalysisError

PARTS = ("mean", "first", "intermediate", "last")
X = tuple(f"{prefix}fairness_gap_{part}" for prefix in ("", "relative_") for part in PARTS)
Y = ("robustness_drop", "aurc")
CONTROL = "ta"
CELL = ["arch", "forget", "method", "scope"]
COLUMNS = ["arch", "x", "y", "attack", "eps", "role", "statistic", "coefficient", "low", "high", "p", "n", "seeds"]
FEWEST = 4  # cells without which nothing is said
EQUAL = 1e-9  # coefficients that differ by less are equal: sums in another order
ALIKE = 1e-4  # of the range of a value: cells that differ by less in all values are one
DIGITS = 12  # of means over seeds, for the same reason
BLOCK = 10**7  # pairs of cells that are compared at a time: 80 MB

Outcome = tuple[np.ndarray, np.ndarray, np.ndarray]  # coefficients [J], of samples [R, J], of permutations [R, J]


class Resampling:
    """What happens to ``cells`` cells with ``seeds`` seeds each, ``resamples`` times.

    ``permutations`` [R, n]: orders of the cells. ``of_cells`` [R, n] and ``of_seeds`` [R, S]: how often a bootstrap
    sample holds each cell and each seed.
    """

    def __init__(self, cells: int, seeds: int, resamples: int, seed: int):
        rng = np.random.default_rng(seed)
        self.cells, self.seeds = cells, seeds
        self.permutations = rng.permuted(np.tile(np.arange(cells), (resamples, 1)), axis=1)
        self.of_cells = rng.multinomial(cells, np.full(cells, 1 / cells), resamples).astype(float)
        self.of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples).astype(float)

    def blocks(self) -> Iterator[slice]:
        """Slices of the samples whose pairs of cells fit in memory together."""
        step = max(1, BLOCK // self.cells**2)
        yield from (slice(start, start + step) for start in range(0, len(self.permutations), step))

    def interval(self, resampled: np.ndarray, confidence: float) -> tuple[float, float]:
        """Percentiles of the coefficients [R] of the samples; NaN with one seed."""
        if self.seeds < 2 or not np.isfinite(resampled).any():
            return np.nan, np.nan
        ends = np.nanquantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
        low, high = ends.clip(-1, 1)  # rounding leaves the bounds
        return float(low), float(high)


class Column:
    """A quantity [n, S] of n cells with S seeds each; NaN for a run that failed."""

    def __init__(self, values: np.ndarray, resampling: Resampling):
        values, self.resampling = np.asarray(values, float).reshape(resampling.cells, resampling.seeds), resampling
        # Where a run is missing, a mean over the other seeds would take over what these have in common.
        whole = values[np.isfinite(values).all(1)]
        self.values = values - whole.mean(0) + whole.mean() if len(whole) < len(values) and len(whole) else values

    @cached_property
    def means(self) -> np.ndarray:
        """Mean over seeds [n]."""
        return _rounded(np.nanmean(self.values, axis=1))

    @cached_property
    def ranks(self) -> np.ndarray:
        """Midranks [n] of the means, centred, of length 1; NaN if all are equal."""
        ranks = rankdata(self.means)
        return _unit(ranks - ranks.mean())

    @cached_property
    def resampled_means(self) -> np.ndarray:
        """Mean over the seeds of each sample [R, n]; NaN where a sample holds none of a cell's runs."""
        known = np.isfinite(self.values)
        runs = self.resampling.of_seeds @ known.T
        total = self.resampling.of_seeds @ np.where(known, self.values, 0).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return _rounded(total / runs)

    @cached_property
    def resampled(self) -> np.ndarray:
        """Midranks within each sample [R, n], centred, times the root of how often it holds the cell, of length 1."""
        ranks = np.empty_like(self.resampled_means)
        weights = np.where(np.isfinite(self.resampled_means), self.resampling.of_cells, 0)
        for block in self.resampling.blocks():
            below = (self._signs(block) + 1) / 2
            ranks[block] = (below @ weights[block][:, :, None])[:, :, 0]
        mean = (weights * ranks).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
        return _unit(np.sqrt(weights) * (ranks - mean))

    def pairs(self, other: "Column") -> np.ndarray:
        """Sum over the pairs of cells in each sample [R] of the product of the signs of both differences."""
        sums = np.empty(len(self.resampled_means))
        for block in self.resampling.blocks():
            weights = self.resampling.of_cells[block]
            products = self._signs(block) * other._signs(block)
            sums[block] = ((products @ weights[:, :, None])[:, :, 0] * weights).sum(1)
        return sums

    def _signs(self, block: slice) -> np.ndarray:
        """Signs of the differences between cells [R, n, n]; 0 where one is unknown."""
        means = self.resampled_means[block]
        return np.sign(np.nan_to_num(means[:, :, None] - means[:, None, :]))

    @cached_property
    def signs(self) -> np.ndarray:
        """Signs of the differences between cells [n, n]."""
        return np.sign(self.means[:, None] - self.means)


def spearman(xs: list[Column], y: Column) -> Outcome:
    """Spearman's rank correlation of J columns with y.

    >>> cells = Resampling(3, 1, 100, 0)
    >>> spearman([Column([1, 2, 3], cells), Column([1, 3, 2], cells)], Column([10, 100, 1000], cells))[0].round(9)
    array([1. , 0.5])
    """
    of_x = np.stack([x.ranks for x in xs], axis=1)
    resampled = [(x.resampled * y.resampled).sum(1) for x in xs]
    return y.ranks @ of_x, np.stack(resampled, axis=1), y.ranks[y.resampling.permutations] @ of_x


def partial_spearman(xs: list[Column], y: Column, z: Column) -> Outcome:
    """Correlation of the residuals of the ranks of J columns and of y after a linear fit to the ranks of z.

    The residuals of y are permuted, since y is not exchangeable where z matters (Freedman & Lane 1983).

    >>> cells = Resampling(4, 1, 100, 0)
    >>> x, y, z = (Column(v, cells) for v in ([1, 2, 3, 4], [1, 3, 2, 4], [1, 2, 4, 3]))
    >>> partial_spearman([x], y, z)[0].round(9)  # (0.8 - 0.8 * 0.4) / (0.6 * sqrt(1 - 0.4 ** 2))
    array([0.87287156])
    """
    of_x = np.stack([_unit(x.ranks - (x.ranks @ z.ranks) * z.ranks) for x in xs], axis=1)
    of_y = _unit(y.ranks - (y.ranks @ z.ranks) * z.ranks)
    permuted = of_y[y.resampling.permutations]
    left = _root(1 - (permuted @ z.ranks) ** 2)
    yz, resampled = (y.resampled * z.resampled).sum(1), []
    for x in xs:
        xy, xz = ((x.resampled * other.resampled).sum(1) for other in (y, z))
        resampled.append((xy - xz * yz) / (_root(1 - xz**2) * _root(1 - yz**2)))
    return of_y @ of_x, np.stack(resampled, axis=1), permuted @ of_x / left[:, None]


def kendall(xs: list[Column], y: Column) -> Outcome:
    """Kendall's tau-b of J columns with y, from the signs of the differences between cells.

    >>> cells = Resampling(3, 1, 100, 0)
    >>> kendall([Column([1, 2, 3], cells)], Column([1, 3, 2], cells))[0].round(9)
    array([0.33333333])
    """
    of_x = np.stack([x.signs.ravel() for x in xs], axis=1)
    size = _root((of_x**2).sum(0) * (y.signs**2).sum())
    untied = y.pairs(y)
    resampled = [x.pairs(y) / (_root(x.pairs(x)) * _root(untied)) for x in xs]
    permuted = np.empty((len(y.resampling.permutations), len(xs)))
    for block in y.resampling.blocks():
        order = y.resampling.permutations[block]
        permuted[block] = y.signs[order[:, :, None], order[:, None, :]].reshape(len(order), -1) @ of_x
    return (y.signs.ravel() @ of_x) / size, np.stack(resampled, axis=1), permuted / size


def summaries(outcome: Outcome, resampling: Resampling, confidence: float) -> list[tuple[float | None, ...]]:
    """(coefficient, low, high, two-sided p) of J columns; all None for a constant side or fewer than four cells."""
    rows = []
    for coefficient, resampled, permuted in zip(outcome[0], outcome[1].T, outcome[2].T, strict=True):
        if resampling.cells < FEWEST or not np.isfinite(coefficient):
            rows.append((None, None, None, None))
            continue
        extreme = ~(np.abs(permuted) < abs(coefficient) - EQUAL)
        p = float((extreme.sum() + 1) / (len(permuted) + 1))
        low, high = (None if np.isnan(end) else end for end in resampling.interval(resampled, confidence))
        rows.append((round(float(coefficient), DIGITS), low, high, p))
    return rows


def correlate(
    metrics: pd.DataFrame, confidence: float, resamples: int, seed: int, headlines: Mapping[str, float]
) -> pd.DataFrame:
    """Rows of the correlations table: per architecture, role measured on both sides, x and y; ``n`` counts cells.

    Spearman's coefficient at all radii; at the attack's radius in ``headlines``, and for what has no
    radius, also Kendall's and that at equal clean test accuracy, if it was measured.

    A run for which one of these values is null is left out; n counts the others.

    Raises AnalysisError naming a run that lacks what others of its architecture have.
    """
    metrics = metrics[metrics["metric"].isin([*X, *Y, CONTROL])]
    rows = []
    for (arch, role), of_role in metrics.dropna(subset="role").groupby(["arch", "role"], sort=False):
        if not of_role["metric"].isin(X).any() or not of_role["metric"].isin(Y).any():
            continue
        control = metrics[(metrics["arch"] == arch) & (metrics["metric"] == CONTROL)]
        values = _measured(pd.concat([of_role, control]))
        cells, seeds = next(iter(values.values())).shape
        columns = {}
        if cells >= FEWEST:
            resampling = Resampling(cells, seeds, resamples, seed)
            columns = {key: Column(value, resampling) for key, value in values.items()}
        xs, ys, zs = ([key for key in values if key[0] in names] for names in (X, Y, [CONTROL]))
        for y in ys:
            statistics = {"spearman": (spearman, y)}
            if y[2] in (headlines[y[1]], None):
                statistics["kendall"] = kendall, y
                if zs:
                    statistics["partial_spearman"] = partial_spearman, y, zs[0]
            for statistic, (function, *others) in statistics.items():
                found = [(None,) * 4] * len(xs)
                if columns:
                    outcome = function([columns[x] for x in xs], *(columns[key] for key in others))
                    found = summaries(outcome, resampling, confidence)
                for x, row in zip(xs, found, strict=True):
                    rows.append((arch, x[0], *y, role, statistic, *row, cells, seeds))
    return pd.DataFrame(rows, columns=COLUMNS).astype(
        {"attack": "string", **dict.fromkeys(["eps", "coefficient", "low", "high", "p"], float)}
    )


def _measured(metrics: pd.DataFrame) -> dict[tuple, np.ndarray]:
    """(metric, attack, eps) → values [n, S] of the cells, in one order whatever that of the rows.

    A run for which a value is not defined has none.
    """
    table = metrics.assign(there=True).pivot(
        index=[*CELL, "seed"], columns=["metric", "attack", "eps"], values=["there", "value"]
    )
    if (missing := np.argwhere(table["there"].isna().to_numpy())).size:
        run, column = missing[0]
        raise AnalysisError(f"no {table['there'].columns[column][0]} for {', '.join(map(str, table.index[run]))}")
    values = table["value"].astype(float)
    cells = values.where(values.notna().all(axis=1)).unstack("seed").dropna(how="all")
    cells = cells[_distinct(cells.to_numpy(float))]
    of_cells = cells.to_numpy(float).reshape(len(cells), len(values.columns), len(cells.columns) // len(values.columns))
    return {tuple(None if pd.isna(p) else p for p in key): of_cells[:, i] for i, key in enumerate(values.columns)}


def _distinct(values: np.ndarray) -> np.ndarray:
    """Which of the cells, with all their values [n, V], no earlier one is like: cells that differ by no more than ALIKE
    of the range of each value are one method under two names. Of digits' ResNet, RL and SalUn differ by 6e-7 on the
    last layers: after pretraining RL hardly moves the half of the weights that SalUn leaves.

    >>> _distinct(np.array([[0.0, 1.0], [1.0, 0.0], [1e-7, 1.0]]))
    array([ True,  True, False])
    """
    scale = np.nanmax(values, axis=0, initial=-np.inf) - np.nanmin(values, axis=0, initial=np.inf)
    kept: list[int] = []
    for i, cell in enumerate(values):
        apart = np.abs(values[kept] - cell)
        same = (apart <= ALIKE * scale) | (np.isnan(values[kept]) & np.isnan(cell))
        if not same.all(axis=1).any():
            kept.append(i)
    return np.isin(np.arange(len(values)), kept)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Without the last bits of sums in another order, so that equal means are equal."""
    scale = np.nanmax(np.abs(values), initial=0) or 1.0
    return np.round(values / scale, DIGITS)


def _unit(values: np.ndarray) -> np.ndarray:
    """Rows of length 1; NaN where a row is 0 up to rounding."""
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(length > EQUAL, length, np.nan)


def _root(values: np.ndarray) -> np.ndarray:
    """Square root; NaN where the value is 0 up to rounding."""
    return np.sqrt(np.where(values > EQUAL, values, np.nan))
