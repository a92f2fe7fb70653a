"""Comparisons, correlations and conjectures: scipy's numbers, and what chance alone would give."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unlearn.analysis import comparisons, conjectures, correlations
from unlearn.analysis.comparisons import (
    AnalysisError,
    bootstrap,
    compare,
    holm,
    interval,
    mean_pairwise,
    paired_p,
    seeds_needed,
    two_way,
)
from unlearn.analysis.conjectures import Finding, Settings, conclude, signs_p
from unlearn.analysis.correlations import Column, Resampling, correlate, kendall, partial_spearman, spearman, summaries
from unlearn.analysis.gates import Attack, gates
from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.catalogue import TABLES
from unlearn.io.columns import DETAIL_KEY
from unlearn.io.schema.comparisons import COMPARISONS
from unlearn.io.schema.conjectures import CONJECTURES
from unlearn.io.schema.gates import GATES
from unlearn.io.schema.metrics import METRICS
from unlearn.io.schema.radii import RADII
from unlearn.io.schema.trajectory import TRAJECTORY
from unlearn.stages.analyse import AnalysisSettings, analyse

RNG = np.random.default_rng(0)
RESAMPLING = {"resamples": 200, "seed": 0}


def row(method, seed, value, metric="ta", arch="net", scope="all", forget="ten", **keys):
    run = {"arch": arch, "forget": forget, "method": method, "scope": scope, "seed": seed}
    reason = "undefined" if np.isnan(value) else None
    return {**run, "metric": metric, **dict.fromkeys(DETAIL_KEY), **keys, "value": value, "n": 10, "reason": reason}


def metrics(rows):
    types = {**dict.fromkeys(("role", "attack", "layer", "reason"), "str"), "eps": "Float64", "class": "Int64"}
    return pd.DataFrame(list(rows)).astype({**types, "value": float})


def compared(rows, confidence=0.95):
    return compare(metrics(rows), confidence, **RESAMPLING)


# --- intervals and tests --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("confidence", [0.6, 0.95])
def test_interval_is_students(n, confidence):
    values = RNG.normal(size=(4, n))
    for found, row_ in zip(np.transpose(interval(values, confidence)), values, strict=True):
        assert found == pytest.approx(stats.t.interval(confidence, n - 1, row_.mean(), stats.sem(row_)))


def test_unknown_values_do_not_count():
    values = np.array([0.1, np.nan, 0.4, 0.2])
    assert interval(values, 0.95) == pytest.approx(interval(values[[0, 2, 3]], 0.95))
    assert paired_p(values, np.zeros(4)) == pytest.approx(paired_p(values[[0, 2, 3]], np.zeros(3)))


def test_one_seed_has_no_interval_and_no_p():
    assert np.isnan(interval(np.array([1.0]), 0.95)).all()
    assert np.isnan(paired_p(np.array([1.0]), np.array([0.5])))


def test_p_is_that_of_the_paired_test():
    one, other = RNG.normal(size=(2, 5, 6))
    assert paired_p(one, other) == pytest.approx(stats.ttest_rel(one, other, axis=1).pvalue)


@pytest.mark.parametrize(
    ("values", "references"),
    [([0.3, 0.4], [0.3, 0.4]), ([0.5, 0.7], [0.0, 0.2]), ([0.9, 0.8, 0.3], [0.8, 0.7, 0.2])],
    ids=["equal", "apart", "apart by a tenth, but for rounding"],
)
def test_no_p_where_the_spread_says_nothing(values, references):
    assert np.isnan(paired_p(np.array(values), np.array(references)))


def test_holm_by_hand():
    """0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1 but not below its predecessor's; the other family has one test."""
    p = pd.Series([0.01, 0.04, np.nan, 0.03, 0.005, 0.04])
    assert holm(p, pd.Series([0, 0, 0, 0, 0, 1])).tolist() == pytest.approx(
        [0.03, 0.06, np.nan, 0.06, 0.02, 0.04], nan_ok=True
    )


def naive_holm(p):
    return [
        min(1, max((len(p) - i) * v for i, v in enumerate(sorted(p)) if v <= own)) if not np.isnan(own) else np.nan
        for own in p
    ]


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_definition_in_any_order(seed):
    draw = np.random.default_rng(seed)
    family = pd.Series(draw.integers(3, size=30))
    p = pd.Series(draw.uniform(size=30) ** 3)
    for members in family.groupby(family).groups.values():
        assert holm(p, family)[members].tolist() == pytest.approx(naive_holm(p[members]))
    order = draw.permutation(30)
    shuffled = holm(p[order].reset_index(drop=True), family[order].reset_index(drop=True))
    assert shuffled.to_numpy() == pytest.approx(holm(p, family).to_numpy()[order])


def test_mean_pairwise_is_over_all_pairs():
    values = RNG.normal(size=(3, 6))
    expected = [np.mean([abs(a - b) for a, b in itertools.combinations(v, 2)]) for v in values]
    assert mean_pairwise(values) == pytest.approx(expected)
    values[:, 2] = np.nan
    assert mean_pairwise(values) == pytest.approx(mean_pairwise(np.delete(values, 2, axis=1)))


def test_bootstrap_is_scipys():
    values = RNG.exponential(size=12)
    options = {"confidence_level": 0.9, "n_resamples": 20000, "method": "percentile", "random_state": 0}
    expected = stats.bootstrap((values,), np.mean, **options).confidence_interval
    assert bootstrap(values[None], 0.9, 20000, 1)[0] == pytest.approx(expected, abs=0.01)


def test_bootstrap_of_two_seeds_is_their_range():
    """A quarter of the samples holds one seed twice, so at 95 % the ends are the two values."""
    found = bootstrap(np.array([[0.25, np.nan, 0.75], [0.5, np.nan, np.nan]]), 0.95, 1000, 0)
    assert found[0].tolist() == [0.25, 0.75]
    assert np.isnan(found[1]).all()


def test_bootstrap_of_a_cell_does_not_depend_on_others(monkeypatch):
    values = RNG.normal(size=(7, 4))
    together = bootstrap(values, 0.95, 300, 0)
    monkeypatch.setattr(comparisons, "BLOCK", 2)
    assert bootstrap(values, 0.95, 300, 0) == pytest.approx(together)
    assert bootstrap(values[3:4], 0.95, 300, 0)[0] == pytest.approx(together[3])


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_are_those_of_the_literature(effect, n):
    """Two-sided paired t test, alpha 0.05, power 0.8, as tabulated by G*Power."""
    assert seeds_needed(np.array([effect]), 0.95) == n


def test_seeds_needed_have_the_power():
    def power(n, effect):
        draws = np.random.default_rng(2).normal(effect, 1, size=(40000, n))
        return (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.1).mean()

    for effect in (0.6, 1.0, 2.5):
        (n,) = seeds_needed(np.array([effect]), 0.9)
        assert power(n, effect) > 0.79
        assert power(n - 1, effect) < 0.8


def test_seeds_needed_are_capped_and_fall_with_the_effect():
    found = seeds_needed(np.geomspace(1e-6, 1e6, 200), 0.95)
    assert (np.diff(found) <= 0).all()
    assert (found[0], found[-1]) == (comparisons.MOST_SEEDS, 2)


# --- comparisons ----------------------------------------------------------------------------------

SEEDS = {0: (0.5, 0.8), 1: (0.7, 0.9), 2: (0.6, 0.9)}


def study():
    yield from (row("cf", seed, own) for seed, (own, _) in SEEDS.items())
    yield from (row("retrain", seed, reference) for seed, (_, reference) in reversed(SEEDS.items()))
    yield from (row("retrain", seed, 0.1, scope="last") for seed in SEEDS)


def test_compare_by_hand():
    found = compared(study()).set_index(["method", "scope"])
    assert len(found) == 3
    cf = found.loc["cf", "all"]
    assert cf["mean"] == pytest.approx(0.6)
    assert cf["gap"] == pytest.approx(-0.8 / 3)
    assert cf["abs_gap"] == pytest.approx(0.8 / 3)
    assert (cf["low"], cf["high"]) == pytest.approx(interval(np.array([0.5, 0.7, 0.6]), 0.95))
    assert (cf["boot_low"], cf["boot_high"]) == pytest.approx((0.5, 0.7)), "one in 27 samples is one seed thrice"
    assert (cf["gap_low"], cf["gap_high"]) == pytest.approx(interval(np.array([-0.3, -0.2, -0.3]), 0.95))
    assert cf["spread"] == pytest.approx(0.2 / 3)
    assert cf["p"] == pytest.approx(stats.ttest_rel([0.5, 0.7, 0.6], [0.8, 0.9, 0.9]).pvalue)
    last = found.loc["retrain", "last"]
    assert last["p"] < cf["p"]
    assert cf["p_adjusted"] == pytest.approx(cf["p"])
    assert last["p_adjusted"] == pytest.approx(2 * last["p"]), "two tests: the reference itself is none"
    assert cf["n"] == 3


def test_the_reference_is_retraining_on_all_layers_and_not_compared_with_itself():
    found = compared(study()).set_index(["method", "scope"])
    itself = found.loc[("retrain", "all")]
    assert itself["gap"] == itself["abs_gap"] == 0
    assert itself["spread"] == pytest.approx(0.2 / 3)
    assert itself[["p", "p_adjusted", "equivalent", "seeds_needed"]].isna().all()
    assert found.loc[("retrain", "last"), "gap"] == pytest.approx(0.1 - 2.6 / 3)


def test_gaps_of_both_signs_cancel_in_the_gap_alone():
    rows = [row("cf", s, v) for s, v in enumerate([0.4, 0.8])] + [row("retrain", s, 0.6) for s in range(2)]
    cf = compared(rows).set_index("method").loc["cf"]
    assert (cf["gap"], cf["abs_gap"]) == pytest.approx((0, 0.2))


def pair(values, references, metric="ta", **keys):
    sides = (("cf", values), ("retrain", references))
    return [row(method, seed, v, metric, **keys) for method, side in sides for seed, v in enumerate(side)]


@pytest.mark.parametrize(
    ("values", "references", "expected"),
    [
        ([0.81, 0.89, 0.90, 0.70], [0.80, 0.90, 0.90, 0.70], "yes"),
        ([0.30, 0.41, 0.40, 0.22], [0.80, 0.90, 0.90, 0.70], "no"),
        ([0.60, 1.00, 0.80, 0.90], [0.80, 0.90, 0.90, 0.70], "can't tell"),
        ([0.81], [0.80], "can't tell"),  # one seed
        ([0.81, 0.91], [0.80, 0.90], "can't tell"),  # a constant difference
        ([0.30, 0.41, 0.40], [1.00, 1.00, 1.00], "can't tell"),  # no yardstick
    ],
)
def test_equivalence_by_hand(values, references, expected):
    cf = compared(pair(values, references)).set_index("method").loc["cf"]
    assert cf["equivalent"] == expected
    judged = len(values) > 2 and len(set(references)) > 1
    assert pd.notna(cf["seeds_needed"]) == judged


def test_equivalence_is_two_one_sided_tests():
    """And "no" is a test against the nearer end of the margin; 400 random cells, all three answers among them."""
    draw, expected, rows = np.random.default_rng(3), [], []
    for cell in range(400):
        n = draw.integers(2, 7)
        references = draw.normal(size=n)
        values = references + draw.normal(scale=3) * draw.integers(2) + draw.uniform(0.05, 1) * draw.normal(size=n)
        d, margin = values - references, mean_pairwise(references[None])[0]
        lower = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
        upper = stats.ttest_1samp(d, margin, alternative="less").pvalue
        outside = abs(d.mean()) > margin and stats.ttest_1samp(d, np.sign(d.mean()) * margin).pvalue < 0.1
        expected.append("yes" if max(lower, upper) < 0.1 else "no" if outside else "can't tell")
        rows += pair(values, references, "class_accuracy", role="test", **{"class": cell})
    assert compared(rows, 0.9).query("method == 'cf'")["equivalent"].tolist() == expected
    assert min(expected.count(answer) for answer in ("yes", "no", "can't tell")) > 20


def test_seeds_needed_find_the_margin():
    values, references = [0.60, 1.00, 0.80, 0.90], [0.80, 0.90, 0.90, 0.70]
    cf = compared(pair(values, references)).iloc[0]
    sd = np.std(np.subtract(values, references), ddof=1)
    assert cf["seeds_needed"] == seeds_needed(np.array([cf["spread"] / sd]), 0.95)[0] == 22


def test_keys_that_apply_are_compared_apart():
    def keyed(method, shift):
        for eps in (0.1, 0.2):
            for role in ("test", "retain"):
                yield row(method, 0, shift + eps, "robust_accuracy", attack="pgd", eps=eps, role=role)
        yield row(method, 0, shift, "class_accuracy", role="test", **{"class": 3})

    found = compared([*keyed("cf", 0.5), *keyed("retrain", 0.1)])
    assert len(found) == 10
    assert found.loc[found["method"] == "cf", "gap"].tolist() == pytest.approx([0.4] * 5)


def classes(seeds=4, methods=("cf", "rl", "retrain")):
    draw = np.random.default_rng(5)
    for method, seed, label in itertools.product(methods, range(seeds), range(3)):
        yield row(method, seed, draw.random(), "class_accuracy", role="test", **{"class": label})


def test_the_order_of_rows_means_nothing():
    frame = metrics(classes())
    keys = comparisons.KEY
    one, other = (
        compare(f, 0.95, **RESAMPLING).sort_values(keys, ignore_index=True)
        for f in (frame, frame.sample(frac=1, random_state=0))
    )
    pd.testing.assert_frame_equal(one, other)


def test_names_of_classes_mean_nothing():
    frame, renamed = metrics(classes()), metrics(classes())
    renamed["class"] = renamed["class"].map({0: 2, 1: 0, 2: 1}).astype("Int64")
    found = compare(renamed, 0.95, **RESAMPLING)
    found["class"] = found["class"].map({2: 0, 0: 1, 1: 2}).astype("Int64")
    pd.testing.assert_frame_equal(found, compare(frame, 0.95, **RESAMPLING))


def test_a_cell_may_have_fewer_seeds():
    """Its numbers are those of its own seeds, but for the spread of all retrained models."""
    rows = [r for r in classes(methods=("cf", "retrain")) if (r["method"], r["seed"]) != ("cf", 1)]
    fewer = [r for r in rows if r["seed"] != 1]
    own, without = (compared(r).query("method == 'cf'") for r in (rows, fewer))
    numbers = ["mean", "low", "high", "boot_low", "boot_high", "gap", "gap_low", "gap_high", "abs_gap", "p", "n"]
    pd.testing.assert_frame_equal(own[numbers], without[numbers])
    assert (own["n"] == 3).all()
    assert not np.isclose(own["spread"], without["spread"]).any()


def nulled(rows, method, seed, *named):
    """The rows, null for the ``named`` metrics of a method in one seed, or in all (None)."""
    for r in rows:
        gone = r["method"] == method and r["metric"] in named and seed in (r["seed"], None)
        yield {**r, "value": np.nan, "reason": "undefined"} if gone else r


NUMBERS = ["mean", "low", "high", "boot_low", "boot_high", "gap", "gap_low", "gap_high", "abs_gap", "p"]


def test_a_null_is_left_out_and_counted():
    """Never a 0: the numbers are those of the other seeds."""
    rows = list(classes(methods=("cf", "retrain")))
    found = compared(nulled(rows, "cf", 1, "class_accuracy")).query("method == 'cf'")
    without = compared(r for r in rows if (r["method"], r["seed"]) != ("cf", 1))
    pd.testing.assert_frame_equal(found[NUMBERS], without.query("method == 'cf'")[NUMBERS])
    assert set(found[["n", "pairs", "undefined", "reason"]].itertuples(index=False, name=None)) == {
        (3, 3, 1, "undefined")
    }
    assert without["reason"].isna().all()
    assert (without["undefined"] == 0).all()


def test_a_null_of_retraining_leaves_the_pair_out():
    rows = list(classes(methods=("cf", "retrain")))
    found = compared(nulled(rows, "retrain", 1, "class_accuracy")).query("method == 'cf'")
    whole = compared(rows).query("method == 'cf'")
    fewer = compared(r for r in rows if r["seed"] != 1).query("method == 'cf'")
    pd.testing.assert_frame_equal(found[NUMBERS[:5]], whole[NUMBERS[:5]])
    rest = [*NUMBERS[5:], "p_adjusted", "spread", "equivalent", "seeds_needed"]
    pd.testing.assert_frame_equal(found[rest], fewer[rest])
    assert set(found[["n", "pairs", "undefined", "reason"]].itertuples(index=False, name=None)) == {
        (4, 3, 0, "exact retraining: undefined")
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("nothing", ["cf", "retrain"])
def test_where_no_run_has_a_value_there_is_no_number(nothing, tmp_path):
    rows = list(classes(methods=("cf", "retrain")))
    found = compared(nulled(rows, nothing, None, "class_accuracy"))
    tables.write(COMPARISONS, tmp_path / "c", found.assign(failed_gates=""), {})
    cf = tables.read(COMPARISONS, tmp_path / "c").to_pandas().query("method == 'cf'")
    gone = NUMBERS if nothing == "cf" else NUMBERS[5:]
    assert cf[gone].isna().all(axis=None)
    assert set(cf["n"]) == ({0} if nothing == "cf" else {4})
    assert set(cf["pairs"]) == {0}
    assert set(cf["equivalent"]) == {"can't tell"}


def test_p_is_uniform_and_equivalence_rarely_denied_where_there_is_no_difference():
    draw = np.random.default_rng(6)
    rows = [
        row(method, seed, draw.normal(), "class_accuracy", role="test", **{"class": label})
        for method, seed, label in itertools.product(("cf", "retrain"), range(5), range(300))
    ]
    found = compared(rows).query("method == 'cf'")
    assert stats.kstest(found["p"].astype(float), "uniform").pvalue > 0.01
    assert (found["equivalent"] == "no").mean() < 0.05


def test_columns_of_text_stay_texts_where_no_metric_has_such_a_key(tmp_path):
    """As in a study without attacks, or without metrics per layer."""
    path = str(tmp_path / "metrics.parquet")
    tables.write(METRICS, path, metrics(row(method, 0, 0.5) for method in ("cf", "retrain")), {})
    found = compare(tables.read(METRICS, path).to_pandas(), 0.95, **RESAMPLING)
    tables.write(COMPARISONS, path, found.assign(failed_gates=""), {})


@pytest.mark.parametrize(
    "missing",
    [
        lambda r: r["method"] == "retrain",
        lambda r: r["method"] == "retrain" and r["seed"] == 1,
        lambda r: r["method"] == "retrain" and r["scope"] == "all" and r["seed"] == 2,
    ],
)
def test_a_missing_reference_is_an_error(missing):
    with pytest.raises(AnalysisError, match=r"no exact retraining for net, ten, seed \d: ta"):
        compared(r for r in study() if not missing(r))


# --- rank correlations ----------------------------------------------------------------------------


def naive_partial(x, y, z):
    """Pearson's correlation of the residuals of ranks on ranks."""
    x, y, z = (stats.rankdata(v) for v in (x, y, z))
    left = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, y)]
    return stats.pearsonr(*left).statistic


REFERENCES = {
    spearman: lambda x, y: stats.spearmanr(x, y).statistic,
    kendall: lambda x, y: stats.kendalltau(x, y).statistic,
    partial_spearman: naive_partial,
}


def drawn(count, levels=1000, seed=0, shape=(9, 4)):
    """Columns of 9 cells with four seeds each, as arrays [n, S] and as Columns."""
    arrays = np.random.default_rng(seed).integers(levels, size=(count, *shape)).astype(float)
    resampling = Resampling(*shape, 150, 1)
    return arrays, [Column(array, resampling) for array in arrays], resampling


@pytest.mark.parametrize("levels", [2, 1000], ids=["ties", "no ties"])
@pytest.mark.parametrize("statistic", REFERENCES, ids=lambda f: f.__name__)
def test_coefficients_are_scipys_of_the_means_over_seeds(statistic, levels):
    others = 2 if statistic is partial_spearman else 1
    arrays, columns, _ = drawn(2 + others, levels)
    found, _, _ = statistic(columns[:2], *columns[2:])
    means = arrays.mean(2)
    assert found == pytest.approx([REFERENCES[statistic](x, *means[2:]) for x in means[:2]])


@pytest.mark.filterwarnings("ignore:An input array is constant", "ignore:Polyfit")
@pytest.mark.parametrize("levels", [2, 1000], ids=["ties", "no ties"])
@pytest.mark.parametrize("statistic", REFERENCES, ids=lambda f: f.__name__)
def test_a_bootstrap_sample_repeats_cells_and_seeds(statistic, levels):
    arrays, columns, resampling = drawn(3 if statistic is partial_spearman else 2, levels)
    _, found, _ = statistic(columns[:1], *columns[1:])
    seen = 0
    for cells, seeds, coefficient in zip(
        resampling.of_cells.astype(int), resampling.of_seeds.astype(int), found[:, 0], strict=True
    ):
        repeated = np.repeat(np.repeat(arrays, cells, axis=1), seeds, axis=2).mean(2)
        if np.isfinite(coefficient):
            assert coefficient == pytest.approx(REFERENCES[statistic](*repeated))
            seen += 1
    assert seen > 140


@pytest.mark.parametrize("statistic", [spearman, kendall], ids=lambda f: f.__name__)
def test_permutations_are_scipys(statistic, monkeypatch):
    monkeypatch.setattr(correlations, "BLOCK", 9 * 9 * 7)
    arrays, columns, resampling = drawn(2, 2)
    x, y = arrays.mean(2)
    _, _, found = statistic(columns[:1], columns[1])
    assert found[:, 0] == pytest.approx([REFERENCES[statistic](x, y[order]) for order in resampling.permutations])


def test_permutations_of_the_partial_correlation_move_residuals():
    arrays, columns, resampling = drawn(3)
    x, y, z = (stats.rankdata(v) for v in arrays.mean(2))
    fitted = np.polyval(np.polyfit(z, y, 1), z)

    def pearson(moved):
        left = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, moved)]
        return stats.pearsonr(*left).statistic

    expected = [pearson(fitted + (y - fitted)[order]) for order in resampling.permutations]
    assert partial_spearman(columns[:1], *columns[1:])[2][:, 0] == pytest.approx(expected)


def test_samples_are_drawn_as_often_as_chance_would():
    """Of two seeds: both with probability 1/2, either twice with 1/4; orders of three cells alike."""
    resampling = Resampling(3, 2, 6000, 0)
    drawn_seeds, counts = np.unique(resampling.of_seeds, axis=0, return_counts=True)
    assert drawn_seeds.tolist() == [[0, 2], [1, 1], [2, 0]]
    assert counts / 6000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert (resampling.of_cells.sum(1) == 3).all()
    orders, counts = np.unique(resampling.permutations, axis=0, return_counts=True)
    assert len(orders) == 6
    assert counts / 6000 == pytest.approx(np.full(6, 1 / 6), abs=0.03)


def summary(x, y, confidence=0.95, resamples=500, seed=0):
    """Of values [n, S], or [n] of one seed."""
    x, y = (np.reshape(v, (len(v), -1)) for v in (x, y))
    resampling = Resampling(*x.shape, resamples, seed)
    return summaries(spearman([Column(x, resampling)], Column(y, resampling)), resampling, confidence)[0]


def test_a_planted_correlation_is_found():
    x = RNG.normal(size=(20, 1)) + 0.1 * RNG.normal(size=(20, 5))
    coefficient, low, high, p = summary(x, np.exp(x) + 0.1 * RNG.normal(size=x.shape))
    assert coefficient > 0.9
    assert 0.6 < low < coefficient <= high <= 1
    assert p == pytest.approx(1 / 501)
    reverse = summary(x, -x)
    assert reverse == pytest.approx((-1, -1, -1, 1 / 501)), "two-sided"


@pytest.mark.parametrize("of_cell", [0, 1, 3])
def test_p_is_uniform_and_the_interval_holds_0_where_there_is_nothing_to_find(of_cell):
    """Though runs share what their cells and their seeds have in common, which runs taken for independent show.
    benchmarks/verdicts.py does the same at length."""
    draw = np.random.default_rng(1)
    p, naive, held = [], [], []
    for _ in range(200):
        x, y = of_cell * draw.normal(size=(2, 12, 1)) + 2 * draw.normal(size=(2, 1, 4)) + draw.normal(size=(2, 12, 4))
        _, low, high, found = summary(x, y, resamples=199)
        p.append(found)
        held.append(low <= 0 <= high)
        naive.append(stats.spearmanr(x.ravel(), y.ravel()).pvalue)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(held) >= 0.9
    assert np.mean(np.less(naive, 0.05)) > 0.15


def test_p_is_close_to_scipys():
    x = RNG.normal(size=15)
    y = x + 2 * RNG.normal(size=15)
    found = summary(x, y, resamples=5000)
    assert found[3] == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.03)
    assert found[1:3] == (None, None), "one seed says nothing of others"


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3, 4], [5] * 4)])
@pytest.mark.parametrize("statistic", REFERENCES, ids=lambda f: f.__name__)
def test_nothing_is_said_of_three_cells_or_a_constant(statistic, x, y):
    resampling = Resampling(len(x), 2, 100, 0)
    beside = [[2, 3, 1, 4][: len(x)]] if statistic is partial_spearman else []
    columns = [Column(np.repeat(v, 2), resampling) for v in [x, y, *beside]]
    assert summaries(statistic(columns[:1], *columns[1:]), resampling, 0.95) == [(None,) * 4]


def test_a_missing_run_does_not_stand_for_its_seed():
    """A seed that raises every cell by 10 raises no mean of a cell that lacks it."""
    values = np.arange(6.0)[:, None] + np.array([0.0, 0.0, 10.0])
    values[5, 2] = np.nan
    assert Column(values, Resampling(6, 3, 100, 0)).means.argsort().tolist() == [0, 1, 2, 3, 4, 5]


def test_resampling_is_seeded():
    x, y = RNG.normal(size=(2, 10, 3))
    assert summary(x, y, seed=3) == summary(x, y, seed=3) != summary(x, y, seed=4)


# --- the table of correlations --------------------------------------------------------------------

HEADLINE = 0.1
HEADLINES = {"fgsm": 0.2, "pgd": HEADLINE}


def runs(arch, relation, cells=6, seeds=4):
    """Runs of ``cells`` cells; the fairness-gap grows from one to the next, and a little with the seed."""
    for i, seed in itertools.product(range(cells), range(seeds)):
        method, x = f"m{i}" if i else "retrain", i / 10 + seed / 1000
        yield row(method, seed, (5 * i % 17) / 10, "ta", arch)
        for role in ("test", "forget"):
            for metric in correlations.X:
                yield row(method, seed, x, metric, arch, role=role)
        for eps in (HEADLINE, 0.2):
            yield row(method, seed, relation(x), "robustness_drop", arch, role="test", attack="pgd", eps=eps)
            yield row(method, seed, -relation(x), "robustness_drop", arch, role="retain", attack="pgd", eps=eps)
        yield row(method, seed, -relation(x), "aurc", arch, role="test", attack="pgd")


def correlated(rows):
    return correlate(metrics(rows), 0.95, 100, 0, HEADLINES)


def test_correlate_pairs_runs_per_architecture_attack_radius_and_role():
    found = correlated([*runs("up", lambda x: x**2), *runs("down", lambda x: -x, 5)])
    assert len(found) == 2 * 8 * (3 + 1 + 3), "headline, other radius, aurc; retain was attacked but not probed"
    assert set(found["role"]) == {"test"}
    assert set(found["x"]) == set(correlations.X)
    assert set(found.loc[found["eps"] == 0.2, "statistic"]) == {"spearman"}
    for key, group in found.groupby(["y", "eps"], dropna=False):
        assert key[0] == "robustness_drop" or np.isnan(key[1])
        sign = 1 if key[0] == "robustness_drop" else -1
        assert group["coefficient"].tolist() == [sign if arch == "up" else -sign for arch in group["arch"]]
    assert found.drop_duplicates("arch")[["n", "seeds"]].to_numpy().tolist() == [[6, 4], [5, 4]]


def test_cells_that_agree_in_every_value_are_one():
    """SalUn at density 1 is RL; the same method twice is no second piece of evidence."""
    rows = list(runs("net", lambda x: x**2))
    twin = [{**r, "method": "twin"} for r in rows if r["method"] == "m1"]
    for apart, n in ((0, 6), (1e-6, 6), (0.01, 7)):
        close = [{**r, "value": r["value"] + apart * (r["metric"] == "ta" and r["seed"] == 2)} for r in twin]
        found = correlated([*rows, *close])
        assert set(found["n"]) == {n}
        if n == 6:
            pd.testing.assert_frame_equal(found, correlated(rows))


def test_correlations_do_not_depend_on_the_order_of_rows():
    frame = metrics(runs("net", lambda x: (x - 0.5) ** 2))
    keys = ["x", "y", "eps", "statistic"]
    one, other = (
        correlate(f, 0.95, 100, 0, HEADLINES).sort_values(keys, ignore_index=True)
        for f in (frame, frame.sample(frac=1, random_state=0))
    )
    pd.testing.assert_frame_equal(one, other)
    assert one["p"].between(1 / 101, 1).all()


def test_a_correlation_by_way_of_accuracy_is_gone_at_equal_accuracy():
    draw = np.random.default_rng(4)

    accuracies = dict(zip("abcdefghijklmnopqrstuvwxyz", draw.normal(size=26), strict=True))

    def confounded():
        for method, seed in itertools.product(accuracies, range(2)):
            ta = accuracies[method]
            yield row(method, seed, ta)
            yield row(method, seed, ta + 0.3 * draw.normal(), correlations.X[0], role="test")
            drop = ta + 0.3 * draw.normal()
            yield row(method, seed, drop, "robustness_drop", role="test", attack="pgd", eps=HEADLINE)

    found = correlated(confounded()).set_index("statistic")
    assert found.loc["spearman", "coefficient"] > 0.8
    assert found.loc["spearman", "p"] == pytest.approx(1 / 101)
    assert abs(found.loc["partial_spearman", "coefficient"]) < 0.3
    assert found.loc["partial_spearman", "p"] > 0.05


def test_the_headline_radius_is_the_attacks_own():
    both = [{**r, "attack": a} for r in runs("net", lambda x: x) if r["attack"] for a in HEADLINES]
    gaps = [r for r in runs("net", lambda x: x) if not r["attack"]]
    found = correlated([*gaps, *both]).query("statistic == 'kendall' and y == 'robustness_drop'")
    assert set(zip(found["attack"], found["eps"], strict=True)) == set(HEADLINES.items())


def test_clean_accuracy_need_not_be_measured():
    found = correlated(r for r in runs("net", lambda x: x) if r["metric"] != "ta")
    assert set(found["statistic"]) == {"spearman", "kendall"}


@pytest.mark.parametrize("lost", ["ta", "aurc", "robustness_drop", "fairness_gap_last"])
def test_a_run_that_lacks_a_side_is_an_error(lost):
    rows = [r for r in runs("net", lambda x: x) if (r["metric"], r["method"], r["seed"]) != (lost, "m1", 2)]
    with pytest.raises(AnalysisError, match=f"no {lost} for net, ten, m1, all, 2"):
        correlated(rows)


@pytest.mark.parametrize("name", ["ta", "aurc", "robustness_drop", "fairness_gap_last"])
def test_a_run_with_a_null_is_left_out_of_correlations(name):
    rows = list(runs("net", lambda x: (x - 0.5) ** 2))
    found = correlated(nulled(rows, "m1", 2, name))
    pd.testing.assert_frame_equal(found, correlated(r for r in rows if (r["method"], r["seed"]) != ("m1", 2)))
    assert set(found["n"]) == {6}, "its cell has three other seeds"


@pytest.mark.filterwarnings("error")
def test_no_run_without_a_null_has_no_correlation(tmp_path):
    rows = [{**r, "value": np.nan} if r["metric"] in correlations.X else r for r in runs("net", lambda x: x)]
    found = correlated(rows)
    assert len(found) == len(correlated(runs("net", lambda x: x)))
    assert found[["coefficient", "low", "high", "p"]].isna().all(axis=None)
    assert set(found["n"]) == {0}
    tables.write(TABLES["correlations"], tmp_path / "t", found, {})


# --- conjectures ----------------------------------------------------------------------------------

SETTINGS = Settings(0.95, 200, 0, "pgd", HEADLINES)


@pytest.mark.parametrize(
    ("low", "high", "p", "predicted", "seeds", "verdict", "reason"),
    [
        (0.1, 0.4, 0.01, 1, 3, "supported", "the interval lies above 0"),
        (-0.4, -0.1, 0.01, -1, 3, "supported", "the interval lies below 0"),
        (0.1, 0.4, 0.01, -1, 3, "contradicted", "the interval lies above 0"),
        (-0.4, -0.1, 0.01, 1, 3, "contradicted", "the interval lies below 0"),
        (-0.1, 0.4, 0.01, 1, 3, "not supported", "the interval includes 0"),
        (0.0, 0.4, 0.01, 1, 3, "not supported", "the interval includes 0"),
        (0.1, 0.4, 0.06, 1, 3, "not supported", "the interval lies above 0, but p >= 0.05"),
        (-0.4, -0.1, 0.06, 1, 3, "not supported", "the interval lies below 0, but p >= 0.05"),
        (0.1, 0.4, 0.01, 1, 2, "can't tell", "2 seeds, at least 3 are needed"),
        (None, None, 0.01, 1, 1, "can't tell", "1 seed, at least 3 are needed"),
        (0.1, 0.1, None, 1, 3, "can't tell", "undefined: nothing varies"),
    ],
)
def test_the_verdict_follows_from_interval_p_and_seeds(low, high, p, predicted, seeds, verdict, reason):
    finding = Finding("c", "net", None, None, "x", "y", "spearman", 0.2, low, high, p, 9, seeds)
    assert finding.judged(predicted, 1 - 0.95)[-2:] == (verdict, reason)


def concluded(rows, trajectory=None, settings=SETTINGS):
    frame = metrics(rows)
    found = correlate(frame, settings.confidence, settings.resamples, settings.seed, settings.headlines)
    return conclude(frame, found, trajectory, settings).set_index("conjecture")


@pytest.mark.parametrize(
    ("sign", "seeds", "verdict"), [(1, 4, "supported"), (-1, 4, "contradicted"), (1, 2, "can't tell")]
)
def test_a_larger_gap_with_a_larger_drop(sign, seeds, verdict):
    found = concluded(runs("net", lambda x: sign * x, 8, seeds)).loc[[conjectures.LARGER]]
    assert found["statistic"].tolist() == ["spearman", "partial_spearman"]
    assert found["verdict"].tolist() == [verdict] * 2
    assert found["coefficient"].tolist() == pytest.approx([sign] * 2)
    assert found[["attack", "eps", "n", "seeds"]].to_numpy().tolist() == [["pgd", HEADLINE, 8, seeds]] * 2


def test_only_the_headline_attack_radius_and_the_test_images_are_judged():
    other = [
        row(f"m{i}" if i else "retrain", seed, -i, "robustness_drop", role=role, attack=attack, eps=HEADLINE)
        for i, seed, (role, attack) in itertools.product(range(8), range(4), [("test", "fgsm"), ("forget", "pgd")])
    ]
    found = concluded([*runs("net", lambda x: x, 8), *other]).loc[[conjectures.LARGER]]
    assert found["verdict"].tolist() == ["supported"] * 2


def drops(values, method, forget="ten", scope="all"):
    for seed, value in enumerate(values):
        keys = {"role": "test", "attack": "pgd", "eps": HEADLINE}
        yield row(method, seed, value, "robustness_drop", scope=scope, forget=forget, **keys)


RETRAINED = (0.2, 0.3, 0.25, 0.3)


@pytest.mark.parametrize(
    ("extra", "verdict"),
    [
        ((0.1, 0.12, 0.1, 0.09), "supported"),
        ((-0.1, -0.12, -0.1, -0.09), "contradicted"),
        ((0.1, -0.12, 0.1, -0.09), "not supported"),
        ((0.1, 0.12), "can't tell"),
        ((0.0, 0.0, 0.0), "can't tell"),
    ],
)
def test_approximate_methods_lose_more(extra, verdict):
    """Six methods that lose 1.0 to 1.5 times ``extra`` more; original and other scopes do not count."""
    exact, factors = RETRAINED[: len(extra)], np.linspace(1, 1.5, 6)
    rows = [
        *drops(exact, "retrain"),
        *(r for i, factor in enumerate(factors) for r in drops(np.add(exact, np.multiply(factor, extra)), f"m{i}")),
        *drops([0.9] * len(extra), "original"),
        *drops([0.9] * len(extra), "m0", scope="last"),
    ]
    found = concluded(rows).loc[conjectures.FRAGILE]
    assert found["verdict"] == verdict
    assert found["coefficient"] == pytest.approx(np.mean(extra) * 1.25)
    assert (found["n"], found["seeds"]) == (6, len(extra))
    if len(extra) == 4:
        expected = two_way(np.outer(factors, extra), 0.95)
        assert (found["low"], found["high"], found["p"]) == pytest.approx(expected)


def test_one_method_that_loses_more_is_no_evidence_on_approximate_methods():
    rows = [*drops(RETRAINED, "retrain"), *drops(np.add(RETRAINED, (0.1, 0.12, 0.1, 0.09)), "cf")]
    rows += [r for m in ("rl", "bs", "salun") for r in drops(np.add(RETRAINED, (0.001, 0.0, -0.001, 0.0)), m)]
    found = concluded(rows).loc[conjectures.FRAGILE]
    assert found["verdict"] == "not supported"
    assert found["low"] < 0 < found["coefficient"]


def test_a_method_without_a_run_of_every_seed_is_left_out():
    rows = [*drops(RETRAINED, "retrain"), *drops(RETRAINED[:3], "rl"), *drops(np.add(RETRAINED, 0.1), "cf")]
    found = concluded([*rows, *drops(np.add(RETRAINED, (0.1, 0.2, 0.1, 0.1)), "bs")]).loc[conjectures.FRAGILE]
    assert (found["n"], found["seeds"]) == (2, 4)
    assert "1 method without a run of every seed was left out" in found["reason"]


def test_two_way_is_the_analysis_of_variance():
    """Interval and p from the mean squares of methods, seeds and the rest, each written out."""
    values = np.random.default_rng(3).normal(size=(5, 3)) + np.array([[0.0], [2.0], [1.0], [4.0], [2.0]])
    rows, cols = values.mean(1), values.mean(0)
    mean = sum(values.ravel()) / 15
    of_methods = 3 * sum((r - mean) ** 2 for r in rows) / 4
    of_seeds = 5 * sum((c - mean) ** 2 for c in cols) / 2
    rest = sum((values[i, j] - rows[i] - cols[j] + mean) ** 2 for i in range(5) for j in range(3)) / 8
    variance = max(of_methods + of_seeds - rest, of_methods, of_seeds, rest)
    freedom = variance**2 / (of_methods**2 / 4 + of_seeds**2 / 2 + rest**2 / 8)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance / 15)
    low, high, p = two_way(values, 0.95)
    assert (low, high) == pytest.approx((mean - half, mean + half))
    assert p == pytest.approx(2 * stats.t.sf(mean / np.sqrt(variance / 15), freedom))
    assert two_way(values.T, 0.95) == pytest.approx((low, high, p)), "both ways alike"


@pytest.mark.parametrize("of_method", [0, 1, 3])
def test_two_way_holds_the_mean_of_the_methods_of_which_these_are_a_sample(of_method):
    draw = np.random.default_rng(5)
    held = naive = 0
    for _ in range(400):
        values = of_method * draw.normal(size=(6, 1)) + draw.normal(size=(1, 3)) + draw.normal(size=(6, 3))
        low, high, _ = two_way(values, 0.95)
        held += low <= 0 <= high
        low, high = interval(values.mean(0), 0.95)
        naive += low <= 0 <= high
    assert held >= 0.92 * 400
    assert of_method < 3 or naive < 0.85 * 400, "seeds alone as units would not"


def test_forget_sets_are_averaged_not_counted_as_seeds():
    rows = [
        *(r for forget in ("ten", "class") for r in drops(RETRAINED, "retrain", forget)),
        *drops(np.add(RETRAINED, (0.1, 0.12, 0.1, 0.09)), "cf"),
        *drops(np.add(RETRAINED, (0.3, 0.28, 0.2, 0.29)), "cf", "class"),
    ]
    found = concluded(rows).loc[conjectures.FRAGILE]
    assert (found["low"], found["high"]) == pytest.approx(interval(np.array([0.2, 0.2, 0.15, 0.19]), 0.95))
    assert (found["n"], found["seeds"]) == (1, 4)


def scoped(gap, time, seeds=4, parts=conjectures.PARTS, inside=0.01):
    """Retrained models that differ by 0.02 on average, and `cf` on two scopes that differ by ``gap`` in outputs, by
    ``inside`` in features, and by ``time``."""
    noise = np.array([0.001, -0.001, 0.0005, 0.0])
    spread = np.array([0.5, 0.53, 0.5, 0.53])  # of 6 pairs 4 differ by 0.03: 0.02
    for seed in range(seeds):
        yield from (row("retrain", seed, spread[seed], part) for part in parts)
        for layer, values in (("group 0", spread), ("penultimate", spread[::-1])):
            yield row("retrain", seed, values[seed], "probe_accuracy", role="forget", layer=layer)
            yield row("retrain", seed, seed, "probe_accuracy", role="test", layer=layer)
        for metric, wide, narrow in (
            ("average_gap", 0.05, 0.05 + gap + noise[seed]),
            ("probe_gap", 0.05, 0.05 + inside + noise[seed]),
            ("relative_seconds", 0.4, 0.4 * time * (1 + noise[seed])),
            ("relative_memory", 0.5, 0.25),
        ):
            yield row("retrain", seed, float(metric.startswith("relative_")), metric)
            yield row("cf", seed, wide, metric)
            yield row("cf", seed, narrow, metric, scope="intermediate+last")


@pytest.mark.parametrize(
    ("gap", "time", "seeds", "verdict"),
    [
        (0.01, 0.6, 4, "supported"),  # worse, but not by more than two retrained models differ
        (-0.01, 0.6, 4, "supported"),
        (0.04, 0.6, 4, "contradicted"),
        (0.01, 1.3, 4, "contradicted"),
        (0.02, 0.6, 4, "not supported"),
        (0.01, 1.0, 4, "not supported"),
        (0.01, 0.6, 2, "can't tell"),
    ],
)
def test_intermediate_and_last_layers_are_enough_and_cheaper(gap, time, seeds, verdict):
    found = concluded(scoped(gap, time, seeds)).loc[conjectures.ENOUGH].set_index("y")
    assert found.index.tolist() == ["average_gap", "relative_seconds", "relative_memory"]
    assert found["verdict"].tolist() == [verdict] * 3
    assert found["x"].tolist() == ["cf"] * 3
    assert found["coefficient"].tolist() == pytest.approx([gap, time, 0.5], abs=1e-3)
    assert found["statistic"].tolist() == ["mean_difference", "ratio", "ratio"]
    if seeds == 4:
        assert "the retrain-retrain spread of 0.02," in found["reason"].iloc[0]
    else:
        assert found["reason"].iloc[0] == "2 seeds, at least 3 are needed"


@pytest.mark.parametrize(
    ("inside", "time", "verdict"),
    [
        (0.01, 0.6, "supported"),
        (0.04, 0.6, "contradicted"),
        (0.02, 0.6, "not supported"),
        (0.01, 1.3, "contradicted"),
    ],
)
def test_a_scope_is_enough_on_outputs_and_in_representations_apart(inside, time, verdict):
    found = concluded(scoped(0.01, time, inside=inside)).loc[conjectures.ENOUGH_INSIDE]
    assert (found["verdict"], found["y"], found["x"]) == (verdict, "probe_gap", "cf")
    assert found["coefficient"] == pytest.approx(inside, abs=1e-3)
    assert "the retrain-retrain spread of 0.02," in found["reason"], "of forget images at both layers"
    outputs = concluded(scoped(0.01, time, inside=inside)).loc[conjectures.ENOUGH]
    assert set(outputs["verdict"]) == {"supported" if time < 1 else "contradicted"}
    assert found["source"] == "ours"


def test_representations_need_features():
    rows = [r for r in scoped(0.01, 0.6) if not r["metric"].startswith("probe")]
    found = concluded(rows).loc[conjectures.ENOUGH_INSIDE]
    assert (found["verdict"], found["reason"]) == ("can't tell", "not measured, or without a value: probe_gap")


def test_a_ratio_has_a_geometric_mean():
    rows = [r for r in scoped(0, 1) if r["metric"] != "relative_seconds"]
    ratios = np.array([0.25, 1.0, 0.5, 0.5])
    for seed, ratio in enumerate(ratios):
        rows += [row("cf", seed, 0.4, "relative_seconds"), row("retrain", seed, 1.0, "relative_seconds")]
        rows += [row("cf", seed, 0.4 * ratio, "relative_seconds", scope="intermediate+last")]
    found = concluded(rows).loc[conjectures.ENOUGH].set_index("y").loc["relative_seconds"]
    assert found["coefficient"] == pytest.approx(0.5)
    assert (found["low"], found["high"]) == pytest.approx(np.exp(interval(np.log(ratios), 0.95)))


def checkpoints(slope, seeds=4, arch="net"):
    draw = np.random.default_rng(7)
    rows = [
        {"arch": arch, "seed": seed, "epoch": epoch, "accuracy": epoch / 10 + 0.02 * draw.normal()}
        for seed, epoch in itertools.product(range(seeds), range(10))
    ]
    gap = {"relative_fairness_gap_mean": [1 + slope * r["epoch"] + 0.1 * draw.normal() for r in rows]}
    return pd.DataFrame(rows).assign(**gap, fairness_gap_mean=1.0).sample(frac=1, random_state=0)


@pytest.mark.parametrize(
    ("slope", "seeds", "verdict"),
    [(-0.1, 6, "supported"), (0.1, 6, "contradicted"), (0.0, 6, "not supported"), (-0.1, 5, "can't tell")],
)
def test_a_well_trained_model_has_a_small_gap(slope, seeds, verdict):
    followed = checkpoints(slope, seeds)
    found = concluded(runs("net", lambda x: x), followed).loc[conjectures.TRAINED]
    assert found["verdict"] == verdict
    of_seeds = [
        stats.spearmanr(f["accuracy"], f["relative_fairness_gap_mean"]).statistic for _, f in followed.groupby("seed")
    ]
    assert found["coefficient"] == pytest.approx(np.mean(of_seeds))
    assert (found["n"], found["seeds"]) == (10 * seeds, seeds)
    if seeds == 5:
        assert found["reason"] == "5 seeds, at least 6 are needed"


def test_p_by_signs_is_that_of_all_choices_of_signs():
    values = np.random.default_rng(0).normal(0.4, size=7)
    choices = np.array([np.dot(signs, values) for signs in itertools.product([-1, 1], repeat=7)])
    assert signs_p(values) == pytest.approx(np.mean(np.abs(choices) >= abs(values.sum()) - 1e-12))
    assert signs_p(np.full(20, 0.3)) < 1e-4, "drawn above 16"


@pytest.mark.parametrize("trajectory", [None, checkpoints(-0.1, arch="other")], ids=["none", "of another"])
def test_what_was_not_followed_cannot_be_told(trajectory):
    found = concluded(runs("net", lambda x: x), trajectory).loc[conjectures.TRAINED]
    assert (found["verdict"], found["reason"], found["n"]) == ("can't tell", "pretraining was not followed", 0)


def test_what_was_not_measured_cannot_be_told(tmp_path):
    found = concluded([row(m, s, 0.5) for m in ("cf", "retrain") for s in range(3)])
    assert set(found["verdict"]) == {"can't tell"}
    assert found["reason"].tolist() == [
        "not all measured: relative_fairness_gap_mean, robustness_drop",
        "not all measured: relative_fairness_gap_mean, robustness_drop, ta",
        "robustness_drop was not measured",
        "no method ran on both scopes, intermediate+last and all",
        "no method ran on both scopes, intermediate+last and all",
        "pretraining was not followed",
    ]
    tables.write(CONJECTURES, tmp_path / "t", found.reset_index(), {})


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        (["average_gap"], "not measured, or without a value: average_gap"),
        (["relative_seconds"], "not measured, or without a value: relative_seconds"),
        (["average_gap", "relative_seconds"], "not measured, or without a value: average_gap and relative_seconds"),
        (["ua"], "not all measured, or without a value: ua, ra, ta, mia_efficacy"),
    ],
)
def test_sufficiency_needs_its_metrics(left, reason):
    found = concluded(r for r in scoped(0.01, 0.6) if r["metric"] not in left).loc[[conjectures.ENOUGH]]
    assert set(found["verdict"]) == {"can't tell"}
    assert set(found["reason"]) == {reason}


@pytest.mark.parametrize("null", ["cf", "retrain"])
def test_pairs_without_a_value_are_left_out_of_verdicts_and_counted(null):
    rows = [*drops((0.3, 0.42, 0.35, 0.39), "cf"), *drops(RETRAINED, "retrain")]
    found = concluded(nulled(rows, null, 3, "robustness_drop")).loc[conjectures.FRAGILE]
    fewer = concluded(r for r in rows if r["seed"] != 3).loc[conjectures.FRAGILE]
    assert found["reason"] == f"{fewer['reason']}; 1 pairs left out, without a value"
    pd.testing.assert_series_equal(found.drop("reason"), fewer.drop("reason"))
    nothing = concluded(nulled(rows, null, None, "robustness_drop")).loc[conjectures.FRAGILE]
    assert (nothing["verdict"], nothing["n"]) == ("can't tell", 0)
    assert nothing["reason"] == "0 seeds, at least 3 are needed; 4 pairs left out, without a value"


def test_pairs_of_scopes_without_a_value_are_left_out_and_counted():
    rows = list(scoped(0.01, 0.6))
    found = concluded(nulled(rows, "cf", 3, "average_gap")).loc[[conjectures.ENOUGH]].set_index("y")
    assert found["n"].to_dict() == {"average_gap": 3, "relative_seconds": 4, "relative_memory": 4}
    left = found["reason"].str.endswith("; 1 pairs left out, without a value")
    assert left.to_dict() == {"average_gap": True, "relative_seconds": False, "relative_memory": False}
    nothing = concluded(nulled(rows, "cf", None, "average_gap")).loc[[conjectures.ENOUGH]].set_index("y")
    assert set(nothing["verdict"]) == {"can't tell"}
    assert "not measured, or without a value: average_gap" in nothing.loc["average_gap", "reason"]


def test_no_approximate_method():
    found = concluded([*drops(RETRAINED, "retrain"), *drops(RETRAINED, "original")]).loc[conjectures.FRAGILE]
    assert (found["verdict"], found["reason"]) == ("can't tell", "no approximate method ran on all layers")


# --- the stage ------------------------------------------------------------------------------------


def analysed(rows, tmp_path):
    path, names = str(tmp_path / "metrics.parquet"), ("comparisons", "correlations", "conjectures")
    tables.write(METRICS, path, metrics(rows), {})
    inputs = {name: str(tmp_path / f"{name}.parquet") for name in ("gates", "radii", "trajectory")}
    attacks = list(SETTINGS.headlines)
    described = dict.fromkeys(attacks, Attack("linf", "iterative", "fool"))
    tables.write(GATES, inputs["gates"], gates(metrics(rows), described), {})
    headline = {"threat_norm": ["linf"], "eps": [SETTINGS.headlines[SETTINGS.attack]], "headline": [True]}
    tables.write(RADII, inputs["radii"], headline, {})
    point = {"seed": [0, 0], "epoch": [1, 1], "accuracy": [0.5, 0.5], "layer": ["a", "a"], "depth": [0, 0]}
    point |= {"arch": ["net"] * 2, "class": [0, 1], "sigma": [1.0, 2.0]}
    tables.write(TRAJECTORY, inputs["trajectory"], point, {})
    own = {name: getattr(SETTINGS, name) for name in ("confidence", "resamples", "seed", "attack")}
    settings = AnalysisSettings(**own, threat_norms=dict.fromkeys(attacks, "linf"))
    analyse(path, **inputs, **{name: str(tmp_path / name) for name in names}, settings=settings)
    return {name: tables.read(TABLES[name], tmp_path / name).to_pandas() for name in names}


def test_a_study_need_not_measure_both_sides(tmp_path):
    found = analysed(
        [row(m, 0, 0.5, role="test", layer="a", attack="pgd", eps=0.1) for m in ("cf", "retrain")], tmp_path
    )
    assert {name: len(table) for name, table in found.items()} == {
        "comparisons": 2,
        "correlations": 0,
        "conjectures": 6,
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_the_stage_writes_three_tables(seeds, tmp_path):
    own = [*runs("net", lambda x: x**2, 4, seeds), *runs("vit", lambda x: -x, 4, seeds)]
    own += [
        row(method, s, 0.2, "fairness_gap", role="test", layer="a")
        for method in ("m1", "retrain")
        for s in range(seeds)
    ]
    found = analysed(own, tmp_path)
    of_a_run = 1 + 2 * 8 + 2 * 2 + 1  # accuracy, gaps by role, drops by radius and role, aurc
    assert len(found["comparisons"]) == 2 * 4 * of_a_run + 2
    assert len(found["correlations"]) == 2 * 8 * (3 + 1 + 3)
    assert found["conjectures"].groupby("arch").size().to_dict() == {"net": 6, "vit": 6}


def test_a_study_has_the_settings_of_the_stage(config):
    settings = AnalysisSettings(**Study(config).analysis_settings())
    assert settings.attack == config["attacks"][-1]
    assert list(settings.threat_norms) == sorted(config["attacks"])
