"""Fairness between classes, clean and under attack, and in thirds of the network."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics
from test_metrics import RADII, another, evidence, measured, rows, values

from unlearn.api.metrics import ONE_CLASS, MetricError

# --- classes --------------------------------------------------------------------------------------


def with_test(labels, predicted, classes=3):
    """Evidence whose test images have these labels and predictions."""
    run = evidence(counts=(30, 12, len(labels)), classes=classes)
    test = (run.predictions["role"] == "test").to_numpy()
    logits = run.logits.copy()
    logits[test] = np.eye(classes)[predicted]
    frame = run.predictions.copy()
    frame.loc[test, "label"] = labels
    return replace(run, predictions=frame, logits=logits)


def test_class_fairness_by_hand():
    """Accuracies 1, 1/2, 0; four of six predictions are 0; the shares predicted are 2/3, 1/3, 0."""
    found = values("class_fairness", with_test([0, 0, 1, 1, 2, 2], [0, 0, 1, 0, 0, 1]))
    assert found == pytest.approx(
        {
            ("class_accuracy_std", "test"): (1 / 6) ** 0.5,
            ("class_accuracy_ratio", "test"): 0.0,
            ("fpr_spread", "test"): 0.5,
            ("equalised_odds", "test"): 1.0,
            ("demographic_parity", "test"): 2 / 3,
        }
    )


def test_false_positives_can_be_the_larger_spread():
    """All classes are right half of the time; the errors fall on class 0."""
    found = values("class_fairness", with_test([0, 0, 1, 1, 1, 1, 2, 2, 2, 2], [0, 1, 1, 1, 0, 0, 2, 2, 0, 0]))
    assert found[("class_accuracy_std", "test")] == 0
    assert found[("class_accuracy_ratio", "test")] == 1
    assert found[("equalised_odds", "test")] == found[("fpr_spread", "test")] == pytest.approx(4 / 8 - 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("forgotten", [None, 1])
def test_class_fairness_by_scikit_learn(seed, forgotten):
    run = evidence(seed, (60, 20, 80), classes=5, forgotten=forgotten)
    chosen = run.predictions["role"].eq("test") & run.predictions["label"].ne(-1 if forgotten is None else forgotten)
    truth, predicted = run.predictions["label"][chosen].to_numpy(), run.logits.argmax(1)[chosen]
    classes = [c for c in range(5) if c != forgotten]
    recall = sklearn_metrics.recall_score(truth, predicted, labels=classes, average=None)
    confusion = sklearn_metrics.multilabel_confusion_matrix(truth, predicted, labels=classes)
    fpr = [tn_fp[1] / tn_fp.sum() for tn_fp in confusion[:, 0]]
    excess = [np.mean(predicted == c) - np.mean(truth == c) for c in classes]
    found = values("class_fairness", run)
    assert found[("class_accuracy_std", "test")] == pytest.approx(np.std(recall))
    assert found[("class_accuracy_ratio", "test")] == pytest.approx(min(recall) / max(recall))
    assert found[("fpr_spread", "test")] == pytest.approx(max(fpr) - min(fpr))
    assert found[("equalised_odds", "test")] == pytest.approx(max(np.ptp(recall), np.ptp(fpr)))
    assert found[("demographic_parity", "test")] == pytest.approx(max(excess) - min(excess))
    assert {row.n for row in rows("class_fairness", run).values()} == {16}


def test_a_perfect_model_is_fair_whatever_the_sizes_of_classes():
    labels = [0] * 9 + [1] * 3 + [2]
    found = values("class_fairness", with_test(labels, labels))
    assert found.pop(("class_accuracy_ratio", "test")) == 1
    assert set(found.values()) == {0.0}


def test_equal_failure_is_equal():
    found = values("class_fairness", with_test([0, 0, 1, 1], [2, 2, 2, 2]))
    assert found[("class_accuracy_ratio", "test")] == 1
    assert found[("class_accuracy_std", "test")] == 0


def test_one_class_has_no_fairness():
    found = rows("class_fairness", with_test([0, 0, 0], [0, 1, 0]))
    assert len(found) == 5
    assert {row.reason for row in found.values()} == {ONE_CLASS}


def test_induced_disparity_by_hand():
    """The run gains half of class 0 and loses half of class 1 against retrain, which is as disparate."""
    labels = [0, 0, 1, 1]
    run, retrain, original = (
        measured(with_test(labels, predicted)) for predicted in ([0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1])
    )
    found = values("class_fairness", run, retrain, original)
    assert found == {
        ("induced_disparity_retrain", "test"): 1.0,
        ("induced_disparity_original", "test"): 0.5,
        ("class_disparity_gap", "test"): 0.0,
    }


def test_a_loss_that_all_classes_share_induces_no_disparity():
    labels = [0, 0, 1, 1, 2, 2]
    run, reference = (measured(with_test(labels, predicted)) for predicted in ([0, 1, 1, 2, 2, 0], labels))
    assert set(values("class_fairness", run, reference).values()) == {0.0}


def test_induced_disparity_by_loops():
    run = measured(evidence(5, (60, 20, 80), classes=4, forgotten=2))
    retrain, original = another(run, 1), another(run, 2, noise=2)
    accuracies = [values("class_accuracy", e) for e in (run, retrain, original)]
    per_class = [[a[("class_accuracy", "test", c)] for c in (0, 1, 3)] for a in accuracies]
    found = values("class_fairness", run, retrain, original)
    for name, theirs in (("retrain", per_class[1]), ("original", per_class[2])):
        changes = [a - b for a, b in zip(per_class[0], theirs, strict=True)]
        assert found[(f"induced_disparity_{name}", "test")] == pytest.approx(max(changes) - min(changes))
    disparities = [a[("class_disparity", "test")] for a in accuracies[:2]]
    assert found[("class_disparity_gap", "test")] == pytest.approx(abs(disparities[0] - disparities[1]))


# --- classes under attack -------------------------------------------------------------------------


def attacked(labels, fooled_at, attack="pgd", role="test", first=42):
    """Rows of an adversarial table."""
    ids = np.arange(first, first + len(labels))
    return pd.DataFrame({"attack": attack, "id": ids, "role": role, "label": labels, "eps": fooled_at})


def test_class_robustness_by_hand():
    """Class 0 falls at 0.1 and never, class 1 is wrong without attack and falls at 0.2."""
    table = attacked([0, 0, 1, 1], [0.1, np.nan, 0.0, 0.2])
    found = rows("class_robustness", replace(evidence(), adversarial=table))
    expected = {0.0: (1.0, 0.5), 0.1: (0.5, 0.5), 0.2: (0.5, 0.0)}
    for eps, (zero, one) in expected.items():
        assert found[("class_robust_accuracy", "test", "pgd", eps, 0)].value == zero
        assert found[("class_robust_accuracy", "test", "pgd", eps, 1)].value == one
        assert found[("class_robust_disparity", "test", "pgd", eps)].value == zero - one
        assert found[("worst_class_robust_accuracy", "test", "pgd", eps)].value == one
    assert len(found) == 3 * 4
    assert {row.n for row in found.values()} == {2}


@pytest.mark.parametrize("seed", range(4))
def test_class_robustness_by_loops(seed):
    run = evidence(seed, (30, 12, 60), classes=4, forgotten=None if seed % 2 else 3)
    found = rows("class_robustness", run)
    classes = [0, 1, 2, 3] if seed % 2 else [0, 1, 2]
    for attack in ("fgsm", "pgd"):
        for eps in (0.0, *RADII):
            shares = []
            for c in classes:
                verdicts = [
                    np.isnan(row.eps) or row.eps > eps
                    for row in run.adversarial.itertuples()
                    if (row.attack, row.role, row.label) == (attack, "test", c)
                ]
                shares.append(sum(verdicts) / len(verdicts))
                row = found.pop(("class_robust_accuracy", "test", attack, eps, c))
                assert (row.value, row.n) == (pytest.approx(shares[-1]), len(verdicts))
            spread = found.pop(("class_robust_disparity", "test", attack, eps)).value
            assert spread == pytest.approx(max(shares) - min(shares))
            assert found.pop(("worst_class_robust_accuracy", "test", attack, eps)).value == pytest.approx(min(shares))
    assert not found, "neither other roles nor forgotten classes"


@pytest.mark.parametrize("seed", range(3))
def test_robust_accuracy_of_classes_adds_up_and_falls(seed):
    run = evidence(seed, (30, 12, 60))
    total = values("robust_accuracy", run)
    found = rows("class_robustness", run)
    previous = {}
    for eps in (0.0, *RADII):
        of = [
            row for row in found.values() if (row.metric, row.attack, row.eps) == ("class_robust_accuracy", "pgd", eps)
        ]
        mean = sum(row.value * row.n for row in of) / sum(row.n for row in of)
        assert total[("robust_accuracy", "test", "pgd", eps)] == pytest.approx(mean)
        assert all(row.value <= previous.get(row.label, 1) for row in of)
        previous = {row.label: row.value for row in of}


def test_class_robustness_says_what_it_needs():
    run = evidence()
    with pytest.raises(MetricError, match="no attacked images of role 'test'"):
        values("class_robustness", replace(run, adversarial=run.adversarial[run.adversarial["role"] != "test"]))
    with pytest.raises(MetricError, match="no radii for attack 'pgd'"):
        values("class_robustness", replace(run, radii={"fgsm": RADII}))


# --- thirds of the network ------------------------------------------------------------------------


def with_layers(gaps):
    """Evidence with one layer for each gap (mean sigma 1) in order of depth; names sort the other way."""
    cells = [
        {"layer": f"norm{99 - i}", "depth": i, "role": "test", "class": c, "count": 5, "sigma": 1 + sign * gap / 2}
        for i, gap in enumerate(gaps)
        for c, sign in ((0, -1), (1, 1))
    ]
    return replace(evidence(), activations=pd.DataFrame(cells).sample(frac=1, random_state=0))


@pytest.mark.parametrize(
    ("gaps", "thirds"),
    [
        ([0.1, 0.2, 0.6], ([0.1], [0.2], [0.6])),
        ([0.1, 0.3, 0.5, 0.8], ([0.1, 0.3], [0.5], [0.8])),
        ([0.1, 0.3, 0.5, 0.8, 0.9], ([0.1, 0.3], [0.5, 0.8], [0.9])),
        ([0.1, 0.3, 0.5, 0.8, 0.9, 1.0], ([0.1, 0.3], [0.5, 0.8], [0.9, 1.0])),
    ],
)
def test_thirds_are_in_order_of_depth(gaps, thirds):
    found = rows("fairness_gap", with_layers(gaps))
    for prefix in ("fairness_gap", "relative_fairness_gap"):
        for name, part in zip(("first", "intermediate", "last"), thirds, strict=True):
            row = found[(f"{prefix}_{name}", "test")]
            assert (row.value, row.n) == (pytest.approx(np.mean(part)), len(part))
        assert found[(f"{prefix}_mean", "test")].value == pytest.approx(np.mean(gaps))


def test_two_layers_have_no_thirds():
    found = {key[0] for key in rows("fairness_gap", with_layers([0.1, 0.2]))}
    assert found == {f"{a}fairness_gap{b}" for a in ("", "relative_") for b in ("", "_mean", "_max")}
