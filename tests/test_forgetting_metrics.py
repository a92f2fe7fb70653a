"""How well something is forgotten: attacks, divergence and ToW, by hand and by independent implementations."""

from dataclasses import replace
from decimal import Decimal, getcontext

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics
from sklearn.linear_model import LogisticRegression
from test_metrics import ROLES, another, evidence, measured, rows, values

from unlearn.api.metrics import Evidence, MetricError
from unlearn.metrics import divergence, mia

getcontext().prec = 400  # enough for 1 - p of outputs that are 1 up to e-300


def outputs(seed=0, n=40, classes=5, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng.integers(classes, size=n), (scale * rng.normal(size=(n, classes))).astype(np.float32)


def of(**by_role):
    """Evidence of the given (labels, logits) of each role."""
    frames = [pd.DataFrame({"role": role, "label": labels}) for role, (labels, _) in by_role.items()]
    frame = pd.concat(frames, ignore_index=True).rename_axis("id").reset_index()
    return Evidence(frame, np.concatenate([logits for _, logits in by_role.values()]).astype(np.float32))


def sure(losses):
    """Two-class outputs of label 0 with the given losses."""
    p = np.exp(-np.asarray(losses, float))
    return np.zeros(len(p), int), np.stack([np.log(p), np.log1p(-p)], axis=1)


# --- scores of an image ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 100.0])
def test_scores_by_decimal_arithmetic(scale):
    """The formulas as they are written, with 400 digits; also where float64 has p = 1."""
    labels, logits = outputs(scale=scale)
    expected = []
    for y, row in zip(labels, logits, strict=True):
        odds = [Decimal(float(z)).exp() for z in row]
        p = [o / sum(odds) for o in odds]
        modified = -(1 - p[y]) * p[y].ln() - sum(q * (1 - q).ln() for k, q in enumerate(p) if k != y)
        expected.append((-p[y].ln(), -sum(q * q.ln() for q in p), modified))
    found = mia.loss(labels, logits), mia.entropy(logits), mia.modified_entropy(labels, logits)
    np.testing.assert_allclose(np.transpose(found), np.array(expected, float), rtol=1e-9)


def test_scores_by_scipy_and_scikit_learn():
    labels, logits = outputs()
    p = softmax(logits.astype(float), axis=1)
    np.testing.assert_allclose(mia.entropy(logits), stats.entropy(p, axis=1))
    assert mia.loss(labels, logits).mean() == pytest.approx(sklearn_metrics.log_loss(labels, p, labels=range(5)))


def test_modified_entropy_knows_the_label():
    """Entropy does not tell a sure right output from a sure wrong one (Song & Mittal's reason)."""
    logits = np.array([[9.0, 0, 0], [9, 0, 0]])
    right, wrong = mia.modified_entropy(np.array([0, 1]), logits)
    assert right < 0.01
    assert wrong > 9
    assert np.ptp(mia.entropy(logits)) == 0


# --- threshold attacks ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_is_the_best_there_is(seed):
    rng = np.random.default_rng(seed)
    members, others = rng.integers(3, 9, 17) / 7, rng.integers(0, 7, 6) / 7
    accuracies = {
        t: sklearn_metrics.balanced_accuracy_score([1] * 17 + [0] * 6, np.append(members, others) >= t)
        for t in sorted({*members, *others})
    }
    best = [t for t, accuracy in accuracies.items() if accuracy == pytest.approx(max(accuracies.values()))]
    assert mia.best_threshold(members, others) == best[0]


@pytest.mark.parametrize("name", ["modified_entropy", "loss", "entropy"])
def test_what_is_plainly_seen_or_unseen(name):
    rng = np.random.default_rng(0)
    seen, unseen = (lambda n: sure(0.01 * rng.random(n))), (lambda n: sure(0.3 + 0.1 * rng.random(n)))
    for forget, efficacy in ((seen, 0.0), (unseen, 1.0)):
        found = values("mia", of(retain=seen(30), forget=forget(20), test=unseen(15)))
        assert found[(f"mia_{name}",)] == efficacy
        assert found[(f"mia_{name}_attack",)] == 1.0


def test_threshold_attacks_by_hand():
    """Losses. Retain, fitted on 0.1 and 0.3, judged on 0.19 and 0.5; test, fitted on 0.4, judged on 0.25.

    The fitted threshold is 0.3, the mean loss of members 0.2.
    """
    run = of(retain=sure([0.1, 0.19, 0.3, 0.5]), forget=sure([0.15, 0.25, 0.6]), test=sure([0.4, 0.25]))
    found = values("mia", run)
    assert found[("mia_loss",)] == pytest.approx(1 / 3)
    assert found[("mia_loss_attack",)] == (1 / 2 + 0) / 2
    assert found[("mia_yeom",)] == pytest.approx(2 / 3)
    assert found[("mia_yeom_attack",)] == (1 / 2 + 1) / 2
    assert rows("mia", run)[("mia_loss",)].n == 3
    assert rows("mia", run)[("mia_loss_attack",)].n == 3


@pytest.mark.parametrize("seed", range(3))
def test_correctness_is_ua(seed):
    run = evidence(seed)
    found = values("mia", run)
    assert found[("mia_correctness",)] == pytest.approx(values("accuracy", run)[("ua",)])
    right = {role: (x.argmax(1) == y)[1::2].mean() for role in ROLES for y, x in [run.of_role(role)]}
    assert found[("mia_correctness_attack",)] == pytest.approx((right["retain"] + 1 - right["test"]) / 2)


@pytest.mark.parametrize("role", ["retain", "test"])
def test_attacks_are_judged_on_images_they_were_not_fitted_on(role):
    run = evidence(2, (40, 20, 30))
    held_out = run.predictions.index[run.predictions["role"] == role][1::2]
    logits = run.logits.copy()
    logits[held_out] = -3 * logits[held_out]
    before, after = (values("mia", replace(run, logits=x)) for x in (run.logits, logits))
    for name in mia.THRESHOLDS:
        assert after[(f"mia_{name}",)] == before[(f"mia_{name}",)]
    assert after[("mia_loss_attack",)] != before[("mia_loss_attack",)]


def test_attacks_need_an_image_to_fit_on_and_one_to_be_judged_on():
    two = sure([0.1, 0.2])
    whole = rows("mia", of(retain=two, forget=two, test=two))
    assert not [row for row in whole.values() if row.reason]
    for single in ROLES:
        sets = dict.fromkeys(ROLES, two) | {single: sure([0.1])}
        found = rows("mia", of(**sets))
        assert found.keys() == whole.keys()
        absent = {key[0] for key, row in found.items() if row.reason}
        logistic = {"mia_logistic"} if single != "retain" else set()
        thresholds = {key[0] for key in found} - {"mia_logistic", "mia_correctness"} if single != "forget" else set()
        assert absent == logistic | thresholds
        assert {row.reason for row in found.values()} - {None} == {
            f"role '{single}' has one image; fitting and judging an attack needs two"
        }


# --- the logistic attack --------------------------------------------------------------------------


@pytest.mark.parametrize(("forget", "test"), [(25, 25), (30, 12), (4, 9)])
def test_the_logistic_attack_by_a_loop_of_its_own(forget, test):
    rng = np.random.default_rng(forget)
    losses = rng.exponential(1.0, forget), rng.exponential(2.0, test)
    count = min(forget, test)
    sides = [[x[round(i * (len(x) - 1) / (count - 1))] for i in range(count)] for x in losses]
    folds, accuracies = min(10, count), []
    for fold in range(folds):
        inside = [(x, y) for y, side in enumerate(sides) for i, x in enumerate(side) if i % folds == fold]
        outside = [(x, y) for y, side in enumerate(sides) for i, x in enumerate(side) if i % folds != fold]
        model = LogisticRegression().fit([[x] for x, _ in outside], [y for _, y in outside])
        accuracies.append(model.score([[x] for x, _ in inside], [y for _, y in inside]))
    assert mia.told_apart(*losses) == (pytest.approx(np.mean(accuracies)), 2 * count)


def test_the_logistic_attack_is_near_chance_on_equals_and_sees_either_difference():
    rng = np.random.default_rng(0)
    a, b = rng.exponential(1.0, (2, 2000))
    assert mia.told_apart(a, b)[0] == pytest.approx(0.5, abs=0.03)
    assert mia.told_apart(a / 1000, b + 5)[0] > 0.99
    assert mia.told_apart(a + 5, b / 1000)[0] > 0.99
    assert mia.told_apart(np.full(20, 1e6), b[:20] / 1000)[0] == 1.0


# --- MIA-efficacy by class ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_efficacy_of_classes_adds_up(seed):
    run = evidence(seed, (60, 40, 30))
    found = rows("mia_efficacy", run)
    by_class = [row for key, row in found.items() if key[0] == "class_mia_efficacy"]
    sizes = run.predictions.query("role == 'forget'")["label"].value_counts()
    assert {row.label: row.n for row in by_class} == sizes.to_dict()
    total = sum(row.value * row.n for row in by_class) / 40
    assert found[("mia_efficacy",)].value == pytest.approx(total)
    spread = max(row.value for row in by_class) - min(row.value for row in by_class)
    assert found[("class_mia_disparity", "forget")].value == spread


# --- divergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [1e-3, 1.0, 100.0])
def test_divergence_by_scipy_and_loops(noise):
    run = measured(evidence(4))
    other = another(run, noise=noise)
    found = values("divergence", run, other)
    for role in ROLES:
        chosen = (run.predictions["role"] == role).to_numpy()
        p, q = (softmax(e.logits[chosen].astype(float), axis=1) for e in (run, other))
        pairs = list(zip(p, q, strict=True))
        assert found[("js_divergence", role)] == pytest.approx(np.mean([jensenshannon(a, b) ** 2 for a, b in pairs]))
        l1, l2 = ([sum(abs(a - b) ** k) ** (1 / k) for a, b in pairs] for k in (1, 2))
        assert found[("activation_distance", role)] == pytest.approx(np.mean(l2))
        assert found[("activation_distance_l1", role)] == pytest.approx(np.mean(l1))


def test_the_largest_divergence():
    p, q = np.eye(3), np.roll(np.eye(3), 1, axis=0)
    assert divergence.jensen_shannon(p, q) == pytest.approx(np.full(3, np.log(2)))
    labels = np.array([0, 1])
    one, other = (of(**dict.fromkeys(ROLES, (labels, x))) for x in (900 * np.eye(2), -900 * np.eye(2)))
    bounds = {"js_divergence": np.log(2), "activation_distance": 2**0.5, "activation_distance_l1": 2}
    assert {(name, role): bounds[name] for name in bounds for role in ROLES} == pytest.approx(
        values("divergence", one, other)
    )


def test_divergence_is_the_same_both_ways():
    run = measured(evidence(4))
    other = another(run)
    assert values("divergence", run, other) == pytest.approx(values("divergence", other, run))


@pytest.mark.parametrize(("name", "role"), [*(("divergence", role) for role in ROLES), ("class_fairness", "test")])
def test_an_image_that_one_side_lacks_is_an_error(name, role):
    run = measured(evidence())
    kept = np.ones(len(run.predictions), bool)
    kept[(run.predictions["role"] == role).to_numpy().nonzero()[0][3]] = False
    less = replace(run, predictions=run.predictions[kept], logits=run.logits[kept])
    for pair in ((run, less), (less, run)):
        with pytest.raises(MetricError, match=f"1 images of role '{role}' are on one side only"):
            values(name, *pair)


def test_images_must_have_the_same_labels():
    run = measured(evidence())
    flipped = run.predictions.assign(label=run.predictions["label"].where(run.predictions["role"] != "test", 0))
    with pytest.raises(MetricError, match="images of role 'test' have other labels"):
        values("divergence", run, replace(run, predictions=flipped))


# --- ToW ------------------------------------------------------------------------------------------


def test_tow_by_hand():
    def run(ua, ra, ta, mia_efficacy):
        found = {"ua": ua, "ra": ra, "ta": ta, "mia_efficacy": mia_efficacy}
        return replace(evidence(), metrics=pd.DataFrame({"metric": list(found), "value": list(found.values())}))

    found = values("tow", run(0.1, 1.0, 0.9, 0.5), run(0.3, 0.9, 0.8, 0.1))
    assert found == pytest.approx({("tow",): 0.8 * 0.9 * 0.9, ("tow_mia",): 0.6 * 0.9 * 0.9})


def test_tow_is_the_product_over_accuracies():
    """The definition in accuracies; ours is in UA."""
    run = measured(evidence(3))
    other = another(run, noise=2)
    product = 1.0
    for role in ROLES:
        right = [(e.logits.argmax(1) == e.predictions["label"])[e.predictions["role"] == role] for e in (run, other)]
        product *= 1 - abs(right[0].mean() - right[1].mean())
    assert values("tow", run, other)[("tow",)] == pytest.approx(product)
    assert product < 1
