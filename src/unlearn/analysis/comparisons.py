"""Every cell of a study over its seeds, compared with exact retraining with the same seeds.

Seeds are the unit: a cell is its n runs, and a difference is that of a run to exact retraining with the same seed. The
yardstick for "indistinguishable from retraining" is the retrain-retrain spread: the mean absolute difference between
two retrained models that differ in their seed alone.
"""

from functools import cache

import numpy as np
import pandas as pd
from scipy import special, stats

from unlearn.io.columns import CELL_KEY, DETAIL_KEY
from unlearn.run import REFERENCE

GROUP = ["arch", "forget", "metric", *DETAIL_KEY]
KEY = [*CELL_KEY, "metric", *DETAIL_KEY]
POWER = 0.8
MOST_SEEDS = 1000
CONSTANT = 1e-12  # a spread below this share of the values is rounding: (0.9 - 0.8) - (0.8 - 0.7) is 8e-17
BLOCK = 4096  # cells that are resampled at a time: 64 MB with 2000 resamples


class AnalysisError(ValueError):
    """Metrics that cannot be analysed, for example because a reference is missing."""


def interval(values: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Student's t interval of the mean along the last axis; NaN values are unknown, fewer than two have none.

    >>> low, high = interval(np.array([[1.0, 3.0, np.nan], [1.0, np.nan, np.nan]]), 0.5)
    >>> low, high
    (array([ 1., nan]), array([ 3., nan]))
    """
    n = np.isfinite(values).sum(-1)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * _sd(values) / np.sqrt(n)
    return _mean(values) - half, _mean(values) + half


def two_way(values: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """(low, high, two-sided p against 0) of the mean of [M, S] methods × seeds, both drawn from many.

    Two-way random effects without interaction; degrees of freedom by Satterthwaite (1946). What the methods of a seed
    have in common widens the interval, and so does what the seeds of a method have in common. One method has no
    spread between methods: the interval is Student's over seeds. NaN for fewer than two seeds or a mean without spread.

    >>> two_way(np.array([[1.0, 2.0, 3.0]]), 0.95)[:2] == interval(np.array([1.0, 2.0, 3.0]), 0.95)
    True
    """
    methods, seeds = values.shape
    if methods == 1:
        low, high = interval(values[0], confidence)
        return float(low), float(high), float(paired_p(values[0], np.zeros(seeds)))
    if seeds == 1:
        return np.nan, np.nan, np.nan
    mean, of_method, of_seed = values.mean(), values.mean(1), values.mean(0)
    rest = values - of_method[:, None] - of_seed + mean
    squares = np.array(
        [
            seeds * np.var(of_method, ddof=1),
            methods * np.var(of_seed, ddof=1),
            (rest**2).sum() / ((methods - 1) * (seeds - 1)),
        ]
    )
    variance = max(squares[0] + squares[1] - squares[2], *squares)
    if variance <= (CONSTANT * np.abs(values).max()) ** 2:
        return np.nan, np.nan, np.nan
    freedom = variance**2 / (squares**2 / [methods - 1, seeds - 1, (methods - 1) * (seeds - 1)]).sum()
    error = np.sqrt(variance / values.size)
    half = stats.t.ppf((1 + confidence) / 2, freedom) * error
    return float(mean - half), float(mean + half), float(2 * stats.t.sf(abs(mean) / error, freedom))


def paired_p(values: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Two-sided p of a paired t test along the last axis; NaN where differences do not vary, or for one seed."""
    differences = values - references
    n, sd = np.isfinite(differences).sum(-1), _sd(differences)
    largest = np.maximum(_largest(values), _largest(references))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = _mean(differences) / sd * np.sqrt(n)
        return np.where(sd > CONSTANT * largest, 2 * stats.t.sf(np.abs(t), n - 1), np.nan)


def holm(p: pd.Series, family: pd.Series) -> pd.Series:
    """p adjusted for all tests of its ``family`` (Holm 1979); a null p is no test.

    >>> holm(pd.Series([0.03, 0.01, 0.04]), pd.Series([0, 0, 0])).tolist()
    [0.06, 0.03, 0.06]
    """
    ordered = p.dropna().sort_values(kind="stable")
    groups = family[ordered.index]
    of_family = ordered.groupby(groups)
    remaining = of_family.transform("size") - of_family.cumcount()
    return (ordered * remaining).groupby(groups).cummax().clip(upper=1).reindex(p.index)


def mean_pairwise(values: np.ndarray) -> np.ndarray:
    """Mean |difference| over the pairs of each row of [N, S]; NaN where fewer than two are known.

    >>> mean_pairwise(np.array([[1.0, 2.0, 4.0], [1.0, np.nan, 1.5], [1.0, np.nan, np.nan]]))
    array([2. , 0.5, nan])
    """
    first, second = np.triu_indices(values.shape[1], 1)
    return _mean(np.abs(values[:, first] - values[:, second]))


def bootstrap(values: np.ndarray, confidence: float, resamples: int, seed: int) -> np.ndarray:
    """Percentile intervals [N, 2] of the row means of [N, S] by resampling seeds; NaN for fewer than two.

    Rows with as many seeds share their resamples, so a row's interval does not depend on the others.
    """
    intervals = np.full((len(values), 2), np.nan)
    counts = np.isfinite(values).sum(1)
    known_first = np.take_along_axis(values, np.argsort(np.isnan(values), axis=1, kind="stable"), 1)
    for n in np.unique(counts[counts > 1]):
        draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
        share = (draws[:, :, None] == np.arange(n)).mean(1)
        rows = np.flatnonzero(counts == n)
        for block in np.split(rows, range(BLOCK, len(rows), BLOCK)):
            means = known_first[block, :n] @ share.T
            intervals[block] = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1).T
    return intervals


@cache
def detectable(confidence: float) -> np.ndarray:
    """Effect (mean / standard deviation of the differences) that a paired t test finds with POWER, by
    number of seeds from 2 to MOST_SEEDS: t^2 follows a noncentral F of 1 and n - 1 degrees of freedom.
    """
    n = np.arange(2, MOST_SEEDS + 1)
    critical = stats.t.ppf((1 + confidence) / 2, n - 1) ** 2
    return np.sqrt(special.ncfdtrinc(1, n - 1, 1 - POWER, critical) / n)


def seeds_needed(effect: np.ndarray, confidence: float) -> np.ndarray:
    """Smallest number of seeds at which ``effect`` is detectable; MOST_SEEDS stands for that or more.

    >>> seeds_needed(np.array([1.0, 0.5, 0.001]), 0.95)
    array([  10,   34, 1000])
    """
    return np.minimum(2 + np.searchsorted(-detectable(confidence), -effect), MOST_SEEDS)


def compare(metrics: pd.DataFrame, confidence: float, resamples: int, seed: int) -> pd.DataFrame:
    """Rows of the comparisons table; alpha = 1 - confidence.

    ``gap`` is the mean over seeds of run - retrain, ``abs_gap`` that of |run - retrain|. ``p`` is a
    paired t test's, ``p_adjusted`` Holm's over all cells of the architecture, forget set, metric and
    its keys. ``equivalent`` weighs the gap against a margin of ``spread``:

    - "yes": its 1 - 2 alpha interval lies within the margin (two one-sided tests, Schuirmann 1987);
    - "no": its 1 - alpha interval lies wholly outside;
    - "can't tell": neither, or no variance to judge by, or a spread of 0, which is no yardstick
      (a saturated metric, or one that is itself relative to retraining).

    ``seeds_needed`` is the number of seeds that detect a gap as large as the margin. The reference is not compared with
    itself: its ``p``, ``equivalent`` and ``seeds_needed`` are null.

    A run whose value is null counts in ``undefined`` and in nothing else; ``n`` runs have a value, ``pairs`` of them
    one of exact retraining too. ``reason`` is the first run's, null where all runs have both.

    Raises AnalysisError if a run's metric has no counterpart from exact retraining.
    """
    keys, values, references = _paired(metrics)
    family = keys.groupby(GROUP, sort=False, dropna=False).ngroup()
    itself = ((keys["method"] == REFERENCE[0]) & (keys["scope"] == REFERENCE[1])).to_numpy()
    yardstick = dict(zip(family[itself], mean_pairwise(values[itself]), strict=True))
    spread = family.map(yardstick).to_numpy(float)

    differences = values - references
    low, high = interval(values, confidence)
    boot_low, boot_high = bootstrap(values, confidence, resamples, seed).T
    gap_low, gap_high = interval(differences, confidence)
    narrow_low, narrow_high = interval(differences, 2 * confidence - 1)
    p = np.where(itself, np.nan, paired_p(values, references))
    judged = np.isfinite(p) & (spread > CONSTANT * _largest(references))
    equivalent = np.full(len(keys), "can't tell", object)
    equivalent[judged & (narrow_low > -spread) & (narrow_high < spread)] = "yes"
    equivalent[judged & ((gap_low > spread) | (gap_high < -spread))] = "no"
    equivalent[itself] = None
    needed = np.full(len(keys), np.nan)
    needed[judged] = seeds_needed(spread[judged] / _sd(differences[judged]), confidence)
    return keys.assign(
        mean=_mean(values),
        low=low,
        high=high,
        boot_low=boot_low,
        boot_high=boot_high,
        gap=_mean(differences),
        gap_low=gap_low,
        gap_high=gap_high,
        abs_gap=_mean(np.abs(differences)),
        spread=spread,
        p=p,
        p_adjusted=holm(pd.Series(p), family),
        equivalent=pd.array(equivalent, "string"),
        seeds_needed=pd.array(needed, "Int64"),
        n=np.isfinite(values).sum(1),
        pairs=np.isfinite(differences).sum(1),
    )


def _paired(metrics: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Keys of the N rows with ``undefined`` and ``reason``, their values and retraining's [N, S]; NaN for seeds that a
    cell lacks, and for null values."""
    reference = metrics[(metrics["method"] == REFERENCE[0]) & (metrics["scope"] == REFERENCE[1])]
    keys = [*GROUP, "seed"]
    joined = metrics.merge(
        reference[[*keys, "value", "reason"]], on=keys, how="left", suffixes=("", "_reference"), indicator=True
    )
    if (missing := joined["_merge"] == "left_only").any():
        row = joined[missing].iloc[0]
        raise AnalysisError(
            f"no exact retraining for {row['arch']}, {row['forget']}, seed {row['seed']}: {row['metric']}"
        )
    cell = joined.groupby(KEY, sort=False, dropna=False).ngroup().to_numpy()
    column, seeds = pd.factorize(joined["seed"], sort=True)
    pair = np.full((2, cell.max() + 1, len(seeds)), np.nan)
    pair[:, cell, column] = joined[["value", "value_reference"]].to_numpy(float).T
    identity = joined.loc[~pd.Series(cell).duplicated(), KEY].reset_index(drop=True)
    own, theirs = (joined[column].astype("string") for column in ("reason", "reason_reference"))
    reasons = own.fillna("exact retraining: " + theirs).groupby(cell).first()
    identity = identity.assign(undefined=joined["value"].isna().groupby(cell).sum(), reason=reasons)
    return identity.astype({"class": "Int64", **dict.fromkeys(("role", "attack", "layer", "reason"), "string")}), *pair


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(-1) / known.sum(-1)


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest absolute value that is known along the last axis; 0 where none is."""
    return np.where(np.isfinite(values), np.abs(values), 0).max(-1)


def _sd(values: np.ndarray) -> np.ndarray:
    """Sample standard deviation of the known values along the last axis; NaN for fewer than two."""
    n = np.isfinite(values).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(_mean((values - _mean(values)[..., None]) ** 2) * n / (n - 1))
