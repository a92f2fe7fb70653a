"""What the study says of the conjectures of Tran & Woo 2025, whichever way it falls.

One verdict per conjecture and architecture, of four: "supported" or "contradicted" where the interval
lies on one side of 0 and p < alpha, "not supported" otherwise, and "can't tell" where data are missing,
nothing varies, or too few seeds ran. Forget sets are averaged. ``benchmarks/verdicts.py`` measures how often
studies without an effect get a verdict that there is one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from unlearn.analysis.comparisons import AnalysisError, interval, mean_pairwise, paired_p, two_way
from unlearn.io.columns import DETAIL_KEY
from unlearn.run import ALL, CONTROLS, REFERENCE, RETRAIN

GAP, DROP = "relative_fairness_gap_mean", "robustness_drop"
PARTS = ["ua", "ra", "ta", "mia_efficacy"]  # of the average gap
NARROW = "intermediate+last"
ROLE = "test"
FEWEST_SEEDS = 3

LARGER = "a larger fairness-gap goes with a larger robustness drop"
FRAGILE = "approximate methods lose more under attack than exact retraining"
ENOUGH = "intermediate and last layers are enough and cheaper"
ENOUGH_INSIDE = "intermediate and last layers are enough in representations too"
TRAINED = "a well-trained model has a small fairness-gap"
# Whose they are. The paper's text has two conjectures on well-trained models, known from summaries only.
SOURCES = {
    LARGER: "claim of the paper",
    FRAGILE: "claim of the paper",
    ENOUGH: "claim of the paper",
    ENOUGH_INSIDE: "ours",
    TRAINED: "our reading of the paper's conjectures",
}


class Settings(NamedTuple):
    """``attack``: by which robustness is judged, at its radius in ``headlines``; alpha = 1 - confidence."""

    confidence: float
    resamples: int
    seed: int
    attack: str
    headlines: Mapping[str, float]

    @property
    def eps(self) -> float:
        return self.headlines[self.attack]


class Finding(NamedTuple):
    """A row of the conjectures table. ``n`` counts cells, methods, pairs of runs or checkpoints; 0 where none."""

    conjecture: str
    arch: str
    attack: str | None
    eps: float | None
    x: str
    y: str
    statistic: str
    coefficient: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int = 0
    seeds: int = 0
    verdict: str = "can't tell"
    reason: str = ""

    def judged(self, predicted: int, alpha: float) -> "Finding":
        """With the verdict of the module's rule on a coefficient that is ``predicted`` to have this sign."""
        if self.seeds < FEWEST_SEEDS:
            return self._replace(reason=_few(self.seeds))
        if pd.isna([self.low, self.high, self.p]).any():
            return self._replace(reason="undefined: nothing varies")
        if self.low <= 0 <= self.high:
            return self._replace(verdict="not supported", reason="the interval includes 0")
        side = "above" if self.low > 0 else "below"
        if self.p >= alpha:
            return self._replace(verdict="not supported", reason=f"the interval lies {side} 0, but p >= {alpha:g}")
        verdict = "supported" if (self.low > 0) == (predicted > 0) else "contradicted"
        return self._replace(verdict=verdict, reason=f"the interval lies {side} 0")

    def without(self, pairs: int) -> "Finding":
        """With the number of pairs that are left out in the reason."""
        return self._replace(reason=f"{self.reason}; {pairs} pairs left out, without a value") if pairs else self


def conclude(
    metrics: pd.DataFrame, correlations: pd.DataFrame, trajectory: pd.DataFrame | None, settings: Settings
) -> pd.DataFrame:
    """Rows of the conjectures table.

    ``trajectory``: a row per checkpoint of pretraining (arch, seed, epoch, accuracy and
    relative_fairness_gap_mean on test images); None if it was not followed.
    """
    findings = []
    for arch, of_arch in metrics.groupby("arch", sort=False):
        findings += larger_gap_larger_drop(arch, correlations, settings)
        findings += [approximate_is_fragile(arch, of_arch, settings)]
        findings += narrow_is_enough(arch, of_arch, settings)
        findings += [trained_is_fair(arch, trajectory, settings)]
    types = dict.fromkeys(["eps", "coefficient", "low", "high", "p"], float)
    rows = pd.DataFrame(findings, columns=Finding._fields).astype({"attack": "string", **types})
    return rows.assign(source=rows["conjecture"].map(SOURCES))


def larger_gap_larger_drop(arch: str, correlations: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    """Spearman's coefficient over cells, and that at equal clean accuracy, are predicted positive."""
    keys = {"arch": arch, "x": GAP, "y": DROP, "attack": settings.attack, "eps": settings.eps, "role": ROLE}
    of_keys = correlations[(correlations[list(keys)] == list(keys.values())).all(axis=1)]
    for statistic in ("spearman", "partial_spearman"):
        finding = Finding(LARGER, arch, settings.attack, settings.eps, GAP, DROP, statistic)
        rows = of_keys[of_keys["statistic"] == statistic]
        if rows.empty:
            needed = [GAP, DROP] + (["ta"] if statistic == "partial_spearman" else [])
            yield finding._replace(reason=f"not all measured: {', '.join(needed)}")
        for row in rows[["coefficient", "low", "high", "p", "n", "seeds"]].to_dict("records"):
            yield finding._replace(**row).judged(1, 1 - settings.confidence)


def approximate_is_fragile(arch: str, metrics: pd.DataFrame, settings: Settings) -> Finding:
    """Mean robustness drop of the approximate methods on all layers - retraining's, predicted positive.

    Methods and seeds are both samples: the claim is about approximate methods, not about those of the study.
    """
    finding = Finding(FRAGILE, arch, settings.attack, settings.eps, "method", DROP, "mean_difference")
    drops = metrics[
        (metrics["metric"] == DROP)
        & (metrics["role"] == ROLE)
        & (metrics["attack"] == settings.attack)
        & (metrics["eps"] == settings.eps)
        & (metrics["scope"] == ALL)
    ]
    if drops.empty:
        return finding._replace(reason=f"{DROP} was not measured")
    approximate = drops[~drops["method"].isin(CONTROLS)]
    if approximate.empty:
        return finding._replace(reason="no approximate method ran on all layers")
    exact = drops[drops["method"] == RETRAIN]
    both = approximate.merge(exact, on=["forget", "seed"], suffixes=("", "_exact"), validate="many_to_one")
    if len(both) < len(approximate):
        raise AnalysisError(f"{arch}: runs without exact retraining of the same seed")
    known = both.dropna(subset=["value", "value_exact"])
    if known.empty:
        return finding.judged(1, 1 - settings.confidence).without(len(both))
    known = known.assign(difference=known["value"] - known["value_exact"])
    by_method = known.pivot_table(index="method", columns="seed", values="difference")
    differences = by_method.dropna().to_numpy(float)
    if not len(differences):
        return finding._replace(reason="no approximate method has a run of every seed")
    ends = [None if np.isnan(v) else v for v in two_way(differences, settings.confidence)]
    finding = finding._replace(**dict(zip(("low", "high", "p"), ends, strict=True)))
    finding = finding._replace(coefficient=float(differences.mean()), n=len(differences), seeds=differences.shape[1])
    finding = finding.judged(1, 1 - settings.confidence).without(len(both) - len(known))
    if short := len(by_method) - len(differences):
        left_out = (
            f"{short} method{'s' * (short > 1)} without a run of every seed {'were' if short > 1 else 'was'} left out"
        )
        return finding._replace(reason=f"{finding.reason}; {left_out}")
    return finding


def narrow_is_enough(arch: str, metrics: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    """Per method, the scope intermediate+last against all: the distance from retraining (difference), and time, FLOPs
    and memory (ratios).

    There are two verdicts a method: on outputs, by the average gap, and on representations, by the gap of linear
    probes. A head alone can bring outputs close to retraining's while the features hold what was to be forgotten.
    Supported: the interval of the difference ends below the retrain-retrain spread of the same distance, and that of
    the ratio of times below 1. Contradicted: one of them begins above. Not supported: neither. FLOPs and memory are
    reported, not judged.
    """
    pairs = _pairs(metrics)
    outputs = metrics[metrics["metric"].isin(PARTS)]
    probes = metrics[(metrics["metric"] == "probe_accuracy") & (metrics["role"] == "forget")]
    spreads = {"average_gap": _retrain_spread(outputs, PARTS), "probe_gap": _retrain_spread(probes, ["probe_accuracy"])}
    first = Finding(ENOUGH, arch, None, None, "", "average_gap", "mean_difference")
    if pairs.empty:
        reason = f"no method ran on both scopes, {NARROW} and {ALL}"
        for conjecture, distance in ((ENOUGH, "average_gap"), (ENOUGH_INSIDE, "probe_gap")):
            yield first._replace(conjecture=conjecture, x="method", y=distance, reason=reason)
    for method, of_method in pairs.groupby("method", sort=False):
        sides = dict(list(of_method.groupby("metric")))
        found = {
            name: _narrow(first._replace(x=method, y=name), sides.get(name), settings.confidence)
            for name in ("average_gap", "probe_gap", "relative_seconds", "relative_flops", "relative_memory")
        }
        for conjecture, distance, rows in (
            (ENOUGH, "average_gap", ("average_gap", "relative_seconds", "relative_flops", "relative_memory")),
            (ENOUGH_INSIDE, "probe_gap", ("probe_gap",)),
        ):
            verdict, reason = _enough_and_cheaper(found[distance], found["relative_seconds"], spreads[distance])
            for finding in map(found.get, rows):
                if finding.y == distance or finding.n:
                    left = len(sides.get(finding.y, [])) - finding.n
                    yield finding._replace(conjecture=conjecture, verdict=verdict, reason=reason).without(left)


def trained_is_fair(arch: str, trajectory: pd.DataFrame | None, settings: Settings) -> Finding:
    """Mean over seeds of Spearman's coefficient of accuracy and relative gap over the checkpoints of a seed, predicted
    negative. Successive checkpoints depend on each other, so seeds are the units: t interval, p by signs."""
    finding = Finding(TRAINED, arch, None, None, "accuracy", GAP, "mean_spearman")
    if trajectory is None or not (trajectory["arch"] == arch).any():
        return finding._replace(reason="pretraining was not followed")
    followed = trajectory[trajectory["arch"] == arch].sort_values(["seed", "epoch"])
    if followed.groupby("seed").size().min() < 2:
        return finding._replace(reason="pretraining was not followed")
    varied = followed.groupby("seed").filter(lambda seed: (seed[["accuracy", GAP]].nunique() > 1).all())
    of_seeds = np.array([stats.spearmanr(f["accuracy"], f[GAP]).statistic for _, f in varied.groupby("seed")])
    finding = finding._replace(n=len(varied), seeds=len(of_seeds))
    if not len(of_seeds):
        return finding._replace(reason="undefined: nothing varies")
    finding = finding._replace(coefficient=float(of_seeds.mean()))
    needed = fewest_signs(1 - settings.confidence)
    if len(of_seeds) < needed:
        return finding._replace(reason=_few(len(of_seeds), needed))
    low, high = interval(of_seeds, settings.confidence)
    return finding._replace(low=float(low), high=float(high), p=signs_p(of_seeds)).judged(-1, 1 - settings.confidence)


def fewest_signs(alpha: float) -> int:
    """Values that all have one sign and so give ``signs_p`` below alpha.

    >>> fewest_signs(0.05)
    6
    """
    return math.floor(1 - math.log2(alpha)) + 1


def signs_p(values: np.ndarray) -> float:
    """Two-sided p of the mean of values [S] that are symmetric around 0 if there is no effect: the share of the 2^S
    choices of signs with a mean as far from 0 (at most 2^16 of them, drawn).

    Student's test does not hold for coefficients between -1 and 1: with three seeds it finds an effect in up to 21 %
    of trajectories without one (benchmarks/verdicts.py).

    >>> signs_p(np.array([0.5, 0.1, 0.9]))
    0.25
    """
    count = len(values)
    if count <= 16:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], size=(2**16, count))
    return float((np.abs(signs @ values) >= abs(values.sum()) - 1e-12).mean())


def _few(seeds: int, needed: int = FEWEST_SEEDS) -> str:
    return f"{seeds} seed{'s' * (seeds != 1)}, at least {needed} are needed"


def _difference(finding: Finding, by_seed: np.ndarray, n: int, confidence: float) -> Finding:
    """With the mean of first - second column of ``by_seed`` [S, 2], its t interval and paired p."""
    values, references = by_seed.T
    low, high = interval(values - references, confidence)
    numbers = [(values - references).mean(), low, high, paired_p(values, references)]
    known = (None if np.isnan(number) else float(number) for number in numbers)
    return finding._replace(
        **dict(zip(("coefficient", "low", "high", "p"), known, strict=True)), n=n, seeds=len(values)
    )


def _pairs(metrics: pd.DataFrame) -> pd.DataFrame:
    """A row per method, metric without keys, forget set and seed that ran on both scopes: value, value_all."""
    plain = metrics[metrics[list(DETAIL_KEY)].isna().all(axis=1)]
    narrow, wide = (plain[plain["scope"] == scope] for scope in (NARROW, ALL))
    return narrow.merge(wide, on=["method", "metric", "forget", "seed"], suffixes=("", "_all"), validate="one_to_one")


def _retrain_spread(parts: pd.DataFrame, needed: Sequence[str]) -> float:
    """Mean difference between two retrained models of different seeds, over pairs, forget sets and the rows of a
    distance's ``parts``; NaN unless all ``needed`` metrics are known."""
    retrained = parts[(parts["method"] == REFERENCE[0]) & (parts["scope"] == REFERENCE[1])]
    if set(retrained["metric"]) != set(needed):
        return np.nan
    values = retrained.pivot(index=["forget", "metric", "layer"], columns="seed", values="value").to_numpy(float)
    return float(mean_pairwise(values).mean())


def _narrow(finding: Finding, pairs: pd.DataFrame | None, confidence: float) -> Finding:
    """Difference between the scopes for a distance; ratio, by way of logarithms, for a cost."""
    pairs = pairs if pairs is None else pairs.dropna(subset=["value", "value_all"])
    if pairs is None or pairs.empty:
        return finding
    values = pairs[["value", "value_all"]].astype(float)
    if not finding.y.startswith("relative_"):
        return _difference(finding, values.groupby(pairs["seed"]).mean().to_numpy(), len(pairs), confidence)
    logs = np.log(values).groupby(pairs["seed"]).mean().to_numpy()
    ratio = _difference(finding._replace(statistic="ratio"), logs, len(pairs), confidence)
    known = {name: np.exp(v) for name in ("coefficient", "low", "high") if (v := getattr(ratio, name)) is not None}
    return ratio._replace(**known)


def _enough_and_cheaper(gap: Finding, time: Finding, margin: float) -> tuple[str, str]:
    if not gap.n or not time.n:
        return "can't tell", f"not measured, or without a value: {' and '.join(f.y for f in (gap, time) if not f.n)}"
    if gap.seeds < FEWEST_SEEDS:
        return "can't tell", _few(gap.seeds)
    if np.isnan(margin):
        needed = ", ".join(PARTS) if gap.y == "average_gap" else "probe_accuracy"
        return "can't tell", f"not all measured, or without a value: {needed}"
    states = [_state(gap, margin), _state(time, 1)]
    reason = f"{gap.y.replace('_', ' ')} {states[0]} the retrain-retrain spread of {margin:.3g}, time {states[1]} 1"
    if "above" in states:
        return "contradicted", reason
    return "supported" if states == ["below", "below"] else "not supported", reason


def _state(finding: Finding, limit: float) -> str:
    if finding.high < limit:
        return "below"
    return "above" if finding.low > limit else "not clear of"
