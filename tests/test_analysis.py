"""Intervals, comparisons and correlations: scipy's numbers, and what chance alone would give."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unlearn import tables
from unlearn.analysis import correlations
from unlearn.analysis.comparisons import AnalysisError, compare, interval, paired_p
from unlearn.analysis.correlations import correlate, resampled, spearman
from unlearn.stages.analyse import analyse

RNG = np.random.default_rng(0)


def row(method, seed, value, metric="ta", arch="net", scope="all", **keys):
    run = {"arch": arch, "forget": "ten", "method": method, "scope": scope, "seed": seed}
    return {**run, "metric": metric, **dict.fromkeys(tables.DETAIL_KEY), **keys, "value": value, "n": 10}


def metrics(rows):
    types = {"role": "str", "attack": "str", "layer": "str", "eps": "Float64", "class": "Int64"}
    return pd.DataFrame(list(rows)).astype(types)


# --- intervals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("confidence", [0.6, 0.95])
def test_interval_is_students(n, confidence):
    values = RNG.normal(size=n)
    expected = stats.t.interval(confidence, n - 1, values.mean(), stats.sem(values))
    assert interval(values, confidence) == pytest.approx(expected)


def test_one_seed_has_no_interval():
    assert interval(np.array([1.0]), 0.95) == (None, None)


def test_p_is_that_of_the_paired_test():
    one, other = RNG.normal(size=(2, 6))
    assert paired_p(one - other) == pytest.approx(stats.ttest_rel(one, other).pvalue)


@pytest.mark.parametrize("differences", [[0.3], [0.0, 0.0, 0.0], [0.5, 0.5]])
def test_no_p_where_the_spread_says_nothing(differences):
    assert paired_p(np.array(differences)) is None


# --- comparisons ----------------------------------------------------------------------------------

SEEDS = {0: (0.5, 0.8), 1: (0.7, 0.9), 2: (0.6, 0.9)}


def study():
    yield from (row("cf", seed, own) for seed, (own, _) in SEEDS.items())
    yield from (row("retrain", seed, reference) for seed, (_, reference) in reversed(SEEDS.items()))
    yield from (row("retrain", seed, 0.1, scope="last") for seed in SEEDS)


def test_compare_by_hand():
    found = compare(metrics(study()), 0.95).set_index(["method", "scope"])
    assert len(found) == 3
    cf = found.loc["cf", "all"]
    assert cf["mean"] == pytest.approx(0.6)
    assert cf["gap"] == pytest.approx(-0.8 / 3)
    assert (cf["low"], cf["high"]) == pytest.approx(interval(np.array([0.5, 0.7, 0.6]), 0.95))
    assert (cf["gap_low"], cf["gap_high"]) == pytest.approx(interval(np.array([-0.3, -0.2, -0.3]), 0.95))
    assert cf["p"] == pytest.approx(stats.ttest_rel([0.5, 0.7, 0.6], [0.8, 0.9, 0.9]).pvalue)
    assert cf["n"] == 3


def test_the_reference_is_retraining_on_all_layers():
    found = compare(metrics(study()), 0.95).set_index(["method", "scope"])
    assert found.loc[("retrain", "all"), "gap"] == 0
    assert found.loc[("retrain", "last"), "gap"] == pytest.approx(0.1 - 2.6 / 3)
    assert pd.isna(found.loc[("retrain", "all"), "p"])


def test_keys_that_apply_are_compared_apart():
    def keyed(method, shift):
        for eps in (0.1, 0.2):
            for role in ("test", "retain"):
                yield row(method, 0, shift + eps, "robust_accuracy", attack="pgd", eps=eps, role=role)
        yield row(method, 0, shift, "class_accuracy", role="test", **{"class": 3})

    found = compare(metrics([*keyed("cf", 0.5), *keyed("retrain", 0.1)]), 0.95)
    assert len(found) == 10
    assert found.loc[found["method"] == "cf", "gap"].tolist() == pytest.approx([0.4] * 5)


def test_columns_of_text_stay_texts_where_no_metric_has_such_a_key(tmp_path):
    """As in a study without attacks, or without metrics per layer."""
    path = str(tmp_path / "metrics.parquet")
    tables.write("metrics", path, metrics(row(method, 0, 0.5) for method in ("cf", "retrain")), {})
    found = compare(tables.read("metrics", path).to_pandas(), 0.95)
    tables.write("comparisons", path, found, {})


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
        compare(metrics(r for r in study() if not missing(r)), 0.95)


# --- correlations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [3, 1000])
def test_spearman_is_scipys(levels):
    """With and without ties."""
    x, y = RNG.integers(levels, size=(2, 5, 30))
    for one, other, found in zip(x, y, spearman(x, y), strict=True):
        assert found == pytest.approx(stats.spearmanr(one, other).statistic)


def test_a_planted_correlation_is_found():
    x = RNG.normal(size=40)
    coefficient, low, high, p = resampled(x, np.exp(x) + 0.1 * RNG.normal(size=40), 0.95, 500, 0)
    assert coefficient > 0.9
    assert 0.7 < low < coefficient < high <= 1
    assert p == pytest.approx(1 / 501)
    reverse = resampled(x, -x, 0.95, 500, 0)
    assert reverse[0] == -1
    assert reverse[3] == pytest.approx(1 / 501), "two-sided"


def test_p_is_uniform_where_there_is_nothing_to_find():
    draw = np.random.default_rng(1)
    p = np.array([resampled(*draw.normal(size=(2, 12)), 0.95, 199, seed)[3] for seed in range(200)])
    assert p.min() >= 1 / 200
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_p_is_close_to_scipys():
    x = RNG.normal(size=15)
    y = x + 2 * RNG.normal(size=15)
    assert resampled(x, y, 0.95, 5000, 0)[3] == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.03)


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3, 4], [5] * 4)])
def test_nothing_is_said_of_three_runs_or_a_constant(x, y):
    assert resampled(np.array(x), np.array(y), 0.95, 100, 0) == (None,) * 4


def test_resampling_is_seeded():
    x, y = RNG.normal(size=(2, 10))
    assert resampled(x, y, 0.95, 100, 3) == resampled(x, y, 0.95, 100, 3) != resampled(x, y, 0.95, 100, 4)


def runs(arch, relation, count=12):
    for seed in range(count):
        for role in ("test", "forget"):
            for metric in correlations.X:
                yield row("cf", seed, seed / 10, metric, arch, role=role)
        drop = relation(seed / 10)
        yield row("cf", seed, drop, correlations.Y, arch, role="test", attack="pgd", eps=0.1)
        yield row("cf", seed, -drop, correlations.Y, arch, role="retain", attack="pgd", eps=0.1)


def test_correlate_pairs_runs_per_architecture_attack_radius_and_role():
    frame = metrics([*runs("up", lambda x: x**2), *runs("down", lambda x: -x, 5)]).sample(frac=1, random_state=0)
    found = correlate(frame, 0.95, 100, 0).set_index(["arch", "x"])
    assert len(found) == 2 * 2, "retain was attacked but not probed"
    assert set(found["role"]) == {"test"}
    for x in correlations.X:
        assert found.loc[("up", x), "coefficient"] == 1
        assert found.loc[("down", x), "coefficient"] == -1
        assert found.loc[("up", x), "n"] == 12


def test_a_study_need_not_measure_both_sides(tmp_path):
    path = str(tmp_path / "metrics.parquet")
    only = [row(m, 0, 0.5, role="test", layer="a", attack="pgd", eps=0.1) for m in ("cf", "retrain")]
    tables.write("metrics", path, metrics(only), {})
    analyse(path, str(tmp_path / "a"), str(tmp_path / "b"), {"confidence": 0.95, "resamples": 100, "seed": 0})
    assert len(tables.read("comparisons", tmp_path / "a")) == 2
    assert len(tables.read("correlations", tmp_path / "b")) == 0


def test_the_stage_writes_both_tables(tmp_path):
    path, out = str(tmp_path / "metrics.parquet"), [str(tmp_path / name) for name in ("comparisons", "correlations")]
    own = [*runs("net", lambda x: x), *(row("cf", s, 0.2, "fairness_gap", role="test", layer="a") for s in range(12))]
    tables.write("metrics", path, metrics([*own, *({**r, "method": "retrain"} for r in own)]), {})
    analyse(path, *out, {"confidence": 0.95, "resamples": 100, "seed": 0})
    assert len(tables.read("comparisons", out[0])) == 2 * 7
    assert len(tables.read("correlations", out[1])) == 2
