"""Exact retraining is marked where it is no reference, and a study where it cannot measure forgetting."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unlearn.analysis.gates import failed, flag_comparisons, flag_conjectures, flagging
from unlearn.analysis.independence import independence, most_agreement, noise
from unlearn.api.figures import ReportSettings
from unlearn.io import tables
from unlearn.io.columns import CELL_KEY, DETAIL_KEY
from unlearn.io.schema.gates import GATES
from unlearn.reports.verdicts import page

RETRAIN = {"arch": "net", "forget": "ten", "method": "retrain", "scope": "all", "seed": 0}


def measured(forget=0.9, test=0.9, n=1000, ua=((0.0, 0.1),), efficacy=((0.1, 0.4),)):
    """Metrics of both controls; ``ua`` and ``efficacy``: per seed the original's and exact retraining's."""
    rows = []
    for metric, values in (("ua", ua), ("mia_efficacy", efficacy)):
        for seed, pair in enumerate(values):
            rows += [
                {"method": method, "seed": seed, "metric": metric, "value": value, "n": n}
                for method, value in zip(("original", "retrain"), pair, strict=True)
            ]
    for role, value in (("forget", forget), ("test", test)):
        rows.append({"method": "original", "seed": 0, "metric": "agreement", "role": role, "value": value, "n": n})
    frame = pd.DataFrame([{**RETRAIN, **dict.fromkeys(DETAIL_KEY), **row} for row in rows])
    return frame.astype({"role": "string", "attack": "string", "layer": "string", "eps": "Float64", "class": "Int64"})


def made(epochs=3, start=None, **run):
    found = {"run": {**RETRAIN, **run}, "settings": {"method": {"epochs": epochs}}}
    return {**found, **({"start": start} if start else {})}


def judged(metrics=None, how=None):
    return independence(measured() if metrics is None else metrics, [how or made()], 0.95)


def row(table, against):
    return table[table["against"] == against].iloc[0]


def test_models_that_are_trained_apart_pass(tmp_path):
    table = judged(how=made(start={"accuracy": 0.2, "limit": 0.3, "n": 100}))
    assert failed(table).empty
    assert set(table["against"]) == {"original", "training", "start", "ua", "mia_efficacy"}
    tables.write(GATES, tmp_path / "gates.parquet", table, {})


@pytest.mark.parametrize(
    ("metrics", "how", "against"),
    [
        ({"forget": 1.0}, {}, "original"),
        ({"forget": 0.99}, {}, "original"),
        ({"forget": 1.0, "test": 1.0, "n": 5}, {}, "original"),
        ({}, {"epochs": 0}, "training"),
        ({}, {"start": {"accuracy": 0.97, "limit": 0.19, "n": 100}}, "start"),
    ],
)
def test_a_reference_that_has_seen_the_forgotten_images_fails(metrics, how, against):
    table = judged(measured(**metrics), made(**how))
    assert flagging(table)[["gate", "against"]].to_numpy().tolist() == [["independence", against]]
    assert (failed(table)["value"] > failed(table)["limit"]).all()


def test_few_images_cannot_tell():
    assert row(judged(measured(forget=1.0, n=10)), "original")["passed"] is pd.NA
    assert row(judged(measured().query("metric != 'agreement'")), "original")["passed"] is pd.NA


def test_nothing_is_assumed_of_a_model_that_was_retrained_elsewhere():
    table = independence(measured(), [{"run": RETRAIN, "settings": {"key": "retrained"}}], 0.95)
    assert set(table["against"]) == {"original", "ua", "mia_efficacy"}


def test_independent_models_rarely_fail():
    """Simulated: both err on 5 % of unseen images, by chance on the same; the original knows the forgotten ones."""
    rng, n, bad = np.random.default_rng(0), 500, 0
    for _ in range(2000):
        apart = (rng.random(n) < 0.05) ^ (rng.random(n) < 0.05)
        forgotten = rng.random(n) < 0.05
        bad += 1 - forgotten.mean() > most_agreement(n, 1 - apart.mean())
    assert bad <= 10
    assert most_agreement(500, 0.9) == 1 - stats.binom.ppf(0.001, 500, 0.05) / 500


def test_all_that_is_compared_with_such_a_reference_is_flagged():
    rows = [
        {**RETRAIN, "method": method, "scope": scope, "forget": forget, "metric": "ua", "attack": attack}
        for forget in ("ten", "other")
        for method, scope in (("retrain", "all"), ("cf", "last"))
        for attack in (None, "pgd")
    ]
    keys = [*CELL_KEY, "metric", "attack"]
    table = judged(measured(forget=1.0))
    flagged = flag_comparisons(pd.DataFrame(rows)[keys], table)
    assert (flagged["failed_gates"] == "independence").tolist() == (flagged["forget"] == "ten").tolist()
    found = flag_conjectures(
        pd.DataFrame([("net", None, ""), ("vit", None, "")], columns=["arch", "attack", "reason"]), table
    )
    assert found["reason"].tolist() == ["gates failed: independence", ""]


# --- what retraining changes --------------------------------------------------------------------------


def test_noise_by_hand():
    values = [0.04, 0.07, 0.05]
    assert noise(values, 10, 0.95) == pytest.approx(4.302653 * np.std(values, ddof=1) * math.sqrt(2 / 3))
    p = 7 / 104
    assert noise([0.05], 100, 0.95) == pytest.approx(1.959964 * math.sqrt(2 * p * (1 - p) / 100))
    assert noise([1.0], 50, 0.95) > 0, "a share of all has an error too"


def test_noise_covers_two_sets_of_retrainings():
    """Simulated: means over three seeds differ by more in at most 5 % of cases, and in most of these."""
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 4000, 3))
    beyond = np.mean([abs(a.mean() - b.mean()) > noise(a, 10, 0.95) for a, b in zip(one, two, strict=True)])
    assert 0.04 < beyond < 0.06


@pytest.mark.parametrize(
    ("ua", "efficacy", "words"),
    [
        ([(0.0, 0.01)], [(0.1, 0.11)], "Retraining changes less than the noise: this study cannot measure forgetting."),
        ([(0.0, 0.2)], [(0.1, 0.11)], "Forgetting cannot be measured by MIA-efficacy,"),
        ([(0.0, 0.2)], [(0.1, 0.5)], "by 20.00 points, noise"),
        ([(0.0, 0.1), (0.0, 0.2)], [(0.1, 0.5), (0.1, 0.6)], "this study cannot measure forgetting"),
        ([(0.0, 0.19), (0.0, 0.2), (0.0, 0.21)], [(0.1, 0.5), (0.1, 0.52), (0.1, 0.51)], "UA by 20.00 points"),
    ],
)
def test_the_page_says_where_forgetting_cannot_be_measured(ua, efficacy, words):
    table = judged(measured(n=100, ua=ua, efficacy=efficacy))
    assert flagging(table).empty, "a small effect puts no number in doubt"
    settings = ReportSettings(
        ["net"], ["ten"], ["original", "retrain"], ["all"], ["pgd"], {"net": "Net"}, {}, {}, (), ["A note."]
    )
    text = page(CONJECTURES, table, FAILURES, COMPARISONS, COMPOSITION, settings).replace("\\", "")
    assert words in text
    assert ("cannot" in words) == ("cannot" in text)
    assert "## Models\n\n- A note.\n" in text


FAILURES = pd.DataFrame(columns=["arch", "seed"])
COMPARISONS = pd.DataFrame({"metric": ["ua"], "reason": [""], "undefined": [0]})
COMPOSITION = pd.DataFrame(
    {
        **{"forget": ["ten"], "by": ["all"], "value": [None], "forgotten": [10], "retained": [90], "test": [30]},
        **{"share_of_forgotten": [1.0], "share_of_training": [0.1]},
    }
)
CONJECTURES = pd.DataFrame(
    [
        {
            **dict.fromkeys(("conjecture", "source", "x", "y", "statistic", "verdict", "reason"), "c"),
            **{"arch": "net", "low": np.nan, "high": np.nan, "coefficient": np.nan, "p": np.nan, "n": 0, "seeds": 0},
        }
    ]
)
