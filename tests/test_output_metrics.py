"""What is computed from stored outputs beside accuracy: agreement, calibration, the ratio of residual recognition, and
the membership attack by neighbouring classes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score
from test_metrics import another, evidence, measured, rows, values

from unlearn.metrics.calibration import calibration_error
from unlearn.metrics.neighbour_mia import told_apart

# --- agreement ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("forgotten", [None, 1])
def test_agreement_by_scikit_learn(seed, forgotten):
    """The accuracy of the run where exact retraining's predictions are the truth."""
    run = measured(evidence(seed, forgotten=forgotten))
    exact = another(run, seed, noise=2)
    for role in ("forget", "retain", "test"):
        chosen = run.predictions["role"].eq(role).to_numpy()
        if role == "test":
            chosen = chosen & run.predictions["label"].ne(-1 if forgotten is None else forgotten).to_numpy()
        row = rows("agreement", run, exact)[("agreement", role)]
        assert row.value == pytest.approx(accuracy_score(exact.logits[chosen].argmax(1), run.logits[chosen].argmax(1)))
        assert row.n == chosen.sum()


def test_agreement_is_not_accuracy():
    """Two models that are wrong in the same way agree, and two that are wrong in different ways do not."""
    run = measured(evidence())
    hot = np.eye(3)[run.predictions["label"]]
    wrong, otherwise = (replace(run, logits=np.roll(hot, shift, axis=1)) for shift in (1, 2))
    assert set(values("agreement", wrong, wrong).values()) == {1.0}
    assert set(values("agreement", wrong, otherwise).values()) == {0.0}


# --- calibration ----------------------------------------------------------------------------------


def loops(labels, logits):
    """The definition, image by image: bin b holds probabilities in (b / 15, (b + 1) / 15]."""
    bins = [[] for _ in range(15)]
    for label, row in zip(labels, logits, strict=True):
        p = softmax(row.astype(float))
        place = next(b for b in range(15) if p.max() <= (b + 1) / 15 or b == 14)
        bins[place].append((float(p.argmax() == label), p.max()))
    parts = [np.mean(part, axis=0) for part in bins if part]
    sizes = [len(part) for part in bins if part]
    return sum(size * abs(right - sure) for size, (right, sure) in zip(sizes, parts, strict=True)) / len(labels)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 5.0, 1e30])
@pytest.mark.parametrize("classes", [2, 5])
def test_calibration_error_by_loops(scale, classes):
    rng = np.random.default_rng(classes)
    labels, logits = rng.integers(classes, size=200), (scale * rng.normal(size=(200, classes))).astype(np.float32)
    assert calibration_error(labels, logits) == pytest.approx(loops(labels, logits), abs=1e-12)


def test_calibration_error_by_hand():
    """Four images at 0.9, of which half are right, and four at 0.6, all right: (0.4 + 0.4) / 2, not |0.75 - 0.75|."""
    p = np.array([0.9] * 4 + [0.6] * 4)
    labels = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    assert calibration_error(labels, np.log(np.stack([p, 1 - p], 1))) == pytest.approx(0.4)


def test_a_model_that_knows_how_sure_it_is_has_no_error():
    p = np.array([0.75] * 4)
    assert calibration_error(np.array([0, 0, 0, 1]), np.log(np.stack([p, 1 - p], 1))) == pytest.approx(0)
    sure = 1e4 * np.eye(2)[[0, 1, 0]]
    assert calibration_error(np.array([0, 1, 0]), sure) == 0
    assert calibration_error(np.array([1, 0, 1]), sure) == 1


def test_calibration_is_measured_per_role():
    run = evidence(forgotten=1)
    found = rows("calibration", run)
    for role in ("forget", "retain", "test"):
        labels, logits = run.of_role(role)
        row = found.pop(("calibration_error", role))
        assert (row.value, row.n) == (pytest.approx(loops(labels, logits)), len(labels))
    assert not found


# --- residual recognition -------------------------------------------------------------------------


def recognised(eps):
    """A run whose four attacked forget images are recognised from these radii on."""
    run = evidence(counts=(30, 4, 18))
    return measured(replace(run, recovery=run.recovery.assign(eps=eps, by=None)))


def test_residual_ratio_by_hand():
    run, exact = recognised([0.0, 0.1, 0.1, np.nan]), recognised([0.0, 0.0, 0.2, 0.2])
    found = values("residual", run, exact)
    ratios = {eps: found[("residual_ratio", "forget", "recover", eps)] for eps in (0.0, 0.1, 0.2)}
    assert ratios == pytest.approx({0.0: 1 / 2, 0.1: 3 / 2, 0.2: 3 / 4})
    assert found[("residual_recognition", "forget", "recover", 0.1)] == pytest.approx(1 / 4)


def test_a_ratio_to_no_recognition_has_no_value():
    run, exact = recognised([0.0, 0.1, 0.1, np.nan]), recognised([np.nan, np.nan, 0.2, 0.2])
    found = rows("residual", run, exact)
    reasons = {eps: found[("residual_ratio", "forget", "recover", eps)].reason for eps in (0.0, 0.1, 0.2)}
    assert reasons == {
        **dict.fromkeys((0.0, 0.1), "exact retraining recognises no image within eps"),
        0.2: None,
    }
    assert all(row.reason is None for row in found.values() if row.metric == "residual_recognition")


# --- membership by neighbouring classes -----------------------------------------------------------


def betrayed(shift, count=400, classes=6):
    """Logits of retained classes; members have more of the second, as a method leaves that relabels by likeness."""
    rng = np.random.default_rng(0)
    member = np.arange(count) % 4 != 0
    logits = rng.normal(size=(count, classes)) + np.linspace(3, -3, classes)
    logits[member, 1] += shift
    return logits, member


@pytest.mark.parametrize(("shift", "auc"), [(0.0, 0.5), (2.0, 0.85), (9.0, 1.0)])
def test_an_attacker_tells_members_by_the_classes_next_to_theirs(shift, auc):
    assert told_apart(*betrayed(shift)) == pytest.approx(auc, abs=0.06)


def test_only_the_nearest_classes_are_looked_at():
    logits, member = betrayed(0.0)
    logits[member, 5] += 2  # the farthest, still
    assert told_apart(logits, member) == pytest.approx(0.5, abs=0.08)


def test_neighbours_betray_a_class_that_is_forgotten_whole():
    run = evidence(counts=(30, 40, 90), forgotten=1)
    images = run.predictions
    ours = images["label"].eq(1) & images["role"].ne("retain")
    row = rows("neighbour_mia", run)["neighbour_mia",]
    assert row.n == ours.sum()
    hidden = replace(run, logits=np.where(np.arange(3) == 1, run.logits + 50, run.logits))
    assert rows("neighbour_mia", hidden)["neighbour_mia",].value == pytest.approx(row.value), (
        "its own logit is left out"
    )
    seen = (ours & images["role"].eq("forget")).to_numpy()
    shifted = replace(run, logits=run.logits + np.where(seen[:, None] & (np.arange(3) == 2), 5, 0))
    assert rows("neighbour_mia", shifted)["neighbour_mia",].value > 0.9


def test_neighbours_say_nothing_where_no_class_is_forgotten_whole():
    (row,) = rows("neighbour_mia", evidence()).values()
    assert np.isnan(row.value)
    assert row.reason == "no class is forgotten whole"
