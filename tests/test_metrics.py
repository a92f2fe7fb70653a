"""Metrics are what their formulas say: by hand, by scikit-learn, and by properties that hold for any data."""

import doctest
import functools
import importlib
import inspect
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics
from sklearn.svm import SVC

from unlearn.api import metrics as api
from unlearn.api.metrics import Evidence, Features, MetricError, References
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.catalogue import TABLES
from unlearn.io.schema.adversarial import ADVERSARIAL
from unlearn.io.schema.features import FEATURES
from unlearn.io.schema.metrics import METRICS
from unlearn.metrics import (
    accuracy,
    average_gap,
    calibration,
    cka,
    class_fairness,
    divergence,
    fairness_gap,
    idi,
    mia,
    mia_efficacy,
)
from unlearn.run import Run
from unlearn.stages import measure

ROLES = ("retain", "forget", "test")
ABSOLUTE = [name for name in plugins.names("metrics") if hasattr(plugins.load("metrics", name), "compute")]
RELATIVE = [name for name in plugins.names("metrics") if hasattr(plugins.load("metrics", name), "compute_relative")]
DECLARED = {m: spec for n in plugins.names("metrics") for m, spec in plugins.load("metrics", n).METRICS.items()}


# Of exact retraining beside itself; all other comparisons are 0.
ONES = {
    "cka_retrain",
    "cka_original",
    "relative_seconds",
    "relative_flops",
    "relative_memory",
    "tow",
    "tow_mia",
    "agreement",
    "residual_ratio",
}
RADII = (0.1, 0.2)


def evidence(seed=0, counts=(30, 12, 18), classes=3, forgotten=None, skill=1.0, scale=1.0):
    """Tables of an imaginary run: ``counts`` images of each role; class ``forgotten`` is forgotten whole;
    logits times ``scale``."""
    rng = np.random.default_rng(seed)
    n = sum(counts)
    frame = pd.DataFrame({"id": np.arange(n), "role": np.repeat(ROLES, counts), "label": rng.integers(classes, size=n)})
    for role in ("retain", "test"):
        frame.loc[frame["role"] == role, "label"] = np.arange(counts[ROLES.index(role)]) % classes
    if forgotten is not None:
        frame.loc[frame["role"].eq("retain") & frame["label"].eq(forgotten), "label"] = (forgotten + 1) % classes
        frame.loc[frame["role"] == "forget", "label"] = forgotten
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), frame["label"]] += skill
    logits *= np.float32(scale)
    right = logits.argmax(1) == frame["label"]
    attacked = pd.concat(
        [
            frame.assign(attack=attack, aim="fool", eps=np.where(right, rng.choice([*RADII, np.nan], n), 0.0))
            for attack in ("fgsm", "pgd")
        ],
        ignore_index=True,
    )
    recovered = frame.assign(attack="recover", aim="recover", eps=np.where(right, 0.0, rng.choice([*RADII, np.nan], n)))
    attacked, recovered = (
        found.assign(
            threat_norm="linf",
            predicted=found["label"],
            distance=found["eps"],
            by=np.where(found["eps"] > 0, rng.choice(["apgd_ce", "apgd_dlr"], len(found)), None),
        )
        for found in (attacked, recovered[recovered["role"] == "forget"])
    )
    cells = [(layer, role, c) for layer in ("norm1", "norm2", "norm3") for role in ROLES[1:] for c in range(classes)]
    activations = pd.DataFrame(cells, columns=["layer", "role", "class"])
    depth = activations["layer"].str[-1].astype(int)
    activations = activations.assign(depth=depth, count=5, sigma=rng.random(len(cells)) + 0.5)
    spent = {"seconds": 2.0, "cpu_seconds": 3.0, "peak_memory": 100, "flops": 10**12, "device": "cpu"}
    spent["trainable_parameters"] = 7
    attacks = ("fgsm", "pgd", "recover")
    shares = np.random.default_rng(seed).integers(counts[1] + 1, size=4) / counts[1]
    relearned = pd.DataFrame({"step": [0, 1, 2, 4], "accuracy": shares, "n": counts[1]})
    return Evidence(
        frame.assign(margin=rng.normal(size=n)),
        logits,
        attacked,
        activations,
        pd.DataFrame([spent]),
        recovery=recovered,
        relearning=relearned,
        features=Features(frame, imaginary_features(frame, seed)),
        radii=dict.fromkeys(attacks, RADII),
        checks={
            attack: {"norm": 1.0, "range": 0.0, "finite": True, "members": ["apgd_ce", "apgd_dlr"]}
            for attack in attacks
        },
    )


def imaginary_features(frame, seed, told=0.0):
    """Features that tell classes apart, and by ``told`` what is to be forgotten."""
    rng = np.random.default_rng(seed)
    layers = {layer: rng.normal(size=(len(frame), width)) for layer, width in (("group 0", 3), ("penultimate", 5))}
    for x in layers.values():
        x[:, 0] += frame["label"]
        x[:, 1] += told * (frame["role"] == "forget")
    return {layer: x.astype(np.float32) for layer, x in layers.items()}


def another(run, seed=1, noise=1.0, told=0.0):
    """Another model of the same images: its outputs differ, its features, how it relearns, and what it cost."""
    rng = np.random.default_rng(seed)
    logits = run.logits + rng.normal(scale=noise, size=run.logits.shape).astype(np.float32)
    added = imaginary_features(run.features.images, seed, told)
    layers = {layer: x + np.float32(noise) * added[layer] for layer, x in run.features.layers.items()}
    relearned = run.relearning.assign(accuracy=rng.permutation(run.relearning["accuracy"]))
    other = replace(run, logits=logits, features=replace(run.features, layers=layers), relearning=relearned)
    return measured(replace(other, cost=run.cost.assign(seconds=1.0, cpu_seconds=1.0, peak_memory=50, flops=9)))


def knowing(run, seed=1, noise=1.0):
    """Such a model whose features tell what is to be forgotten, as the original's."""
    return another(run, seed, noise, told=5.0)


def rows(name, run, retrain=None, original=None):
    """Key → row of a metric file: of its relative part where ``retrain`` is given."""
    module = plugins.load("metrics", name)
    if retrain is None:
        found = list(module.compute(run))
    else:
        original = original or (knowing(retrain) if name == "idi" else retrain)
        if name == "linear_probe":
            run, retrain = (measured(each, ["linear_probe"]) for each in (run, retrain))
        found = list(module.compute_relative(run, References(retrain, original)))
    keyed = {tuple(x for x in (r.metric, r.role, r.attack, r.eps, r.label, r.layer) if x is not None): r for r in found}
    assert len(keyed) == len(found), "a key is given once"
    return keyed


def values(*arguments):
    """Key → value, None where there is none."""
    return {key: None if row.reason else row.value for key, row in rows(*arguments).items()}


NEEDED = ("accuracy", "mia_efficacy", "cost", "robust_accuracy", "residual", "relearning")


def measured(run, needed=NEEDED):
    """The run with the absolute metrics that relative ones need. Probes take long: ``rows`` adds them where they do."""
    return replace(run, metrics=measure.frame([row for name in needed for row in rows(name, run).values()]))


# --- by hand --------------------------------------------------------------------------------------


@pytest.fixture
def handmade():
    """Six images of two classes. Retain: both right. Forget: one of two. Test: one of two."""
    frame = pd.DataFrame({"id": range(6), "role": np.repeat(ROLES, 2), "label": [0, 1] * 3})
    logits = np.array([[2, 1], [1, 2], [2, 1], [2, 1], [0, 1], [0, 1]], np.float32)
    attacked = frame.iloc[[4, 5]].assign(attack="pgd", eps=[0.0, 0.1])
    spread = pd.DataFrame(
        {
            "layer": ["a", "a", "b", "b"],
            "depth": [0, 0, 1, 1],
            "role": ["test"] * 4,
            "class": [0, 1, 0, 1],
            "count": [10] * 4,
            "sigma": [1.0, 3, 2, 2],
        }
    )
    return replace(evidence(), predictions=frame, logits=logits, adversarial=attacked, activations=spread)


def test_accuracy_by_hand(handmade):
    assert values("accuracy", handmade) == {("ua",): 0.5, ("ra",): 1.0, ("ta",): 0.5}
    assert {row.n for row in rows("accuracy", handmade).values()} == {2}


def test_class_accuracy_by_hand(handmade):
    assert values("class_accuracy", handmade) == {
        ("class_accuracy", "test", 0): 0.0,
        ("class_accuracy", "test", 1): 1.0,
        ("class_disparity", "test"): 1.0,
        ("worst_class_accuracy", "test"): 0.0,
    }


def test_robust_accuracy_by_hand(handmade):
    """Of two attacked images one was right before, none is after."""
    found = values("robust_accuracy", handmade)
    assert [found[("robust_accuracy", "test", "pgd", eps)] for eps in (0.0, *RADII)] == [0.5, 0.0, 0.0]
    assert [found[("robustness_drop", "test", "pgd", eps)] for eps in RADII] == [0.5, 0.5]
    assert found[("aurc", "test", "pgd")] == pytest.approx(0.125)


def test_fairness_gap_by_hand(handmade):
    assert values("fairness_gap", handmade) == {
        ("fairness_gap", "test", "a"): 2.0,
        ("fairness_gap", "test", "b"): 0.0,
        ("fairness_gap_mean", "test"): 1.0,
        ("fairness_gap_max", "test"): 2.0,
        ("relative_fairness_gap", "test", "a"): 1.0,
        ("relative_fairness_gap", "test", "b"): 0.0,
        ("relative_fairness_gap_mean", "test"): 0.5,
        ("relative_fairness_gap_max", "test"): 1.0,
    }


def test_cost_by_hand():
    run, other = measured(evidence()), measured(evidence())
    other.metrics.loc[other.metrics["metric"].isin(["cpu_seconds", "peak_memory"]), "value"] *= 4
    other.metrics.loc[other.metrics["metric"] == "flops", "value"] *= 2
    other.metrics.loc[other.metrics["metric"] == "seconds", "value"] *= 10
    assert values("cost", run, other) == {
        ("relative_seconds",): 0.25,
        ("relative_flops",): 0.5,
        ("relative_memory",): 0.25,
    }
    run.cost["device"] = "NVIDIA H100"
    assert values("cost", run, other)[("relative_seconds",)] == 0.1


def test_average_gap_by_hand():
    def run(*found):
        return replace(evidence(), metrics=pd.DataFrame({"metric": average_gap.PARTS, "value": found}))

    found = values("average_gap", run(0.1, 0.9, 0.8, 0.5), run(0.2, 0.9, 0.6, 0.4))
    assert found == {("average_gap",): pytest.approx((0.1 + 0.0 + 0.2 + 0.1) / 4)}


def test_robust_gap_is_signed():
    run, other = measured(evidence(0)), measured(evidence(1))
    one, two = values("robust_gap", run, other), values("robust_gap", other, run)
    signed = {key: value for key, value in one.items() if key[0] != "robust_curve_distance"}
    assert signed == {key: pytest.approx(-two[key]) for key in signed}
    key = ("test", "pgd", 0.2)
    own, theirs = (values("robust_accuracy", r)[("robust_accuracy", *key)] for r in (run, other))
    assert one[("robust_accuracy_gap", *key)] == pytest.approx(own - theirs)


@pytest.mark.parametrize("name", RELATIVE)
@pytest.mark.parametrize("forgotten", [None, 1])
def test_exact_retraining_is_like_itself(name, forgotten):
    run = measured(evidence(forgotten=forgotten))
    for key, value in values(name, run, run).items():
        assert value == (1.0 if key[0] in ONES else 0.0), key


@pytest.mark.parametrize("name", RELATIVE)
def test_another_model_is_not_like_exact_retraining(name):
    """So that the test above can fail."""
    run, other = measured(evidence(0, (60, 40, 90))), another(evidence(1, (60, 40, 90)), noise=3)
    features = replace(other.features, images=run.features.images)
    other = replace(other, predictions=run.predictions, features=features)
    assert set(values(name, run, other, knowing(other)).values()) - {0.0, 1.0}


# --- by scikit-learn ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_accuracies_by_scikit_learn(seed):
    run = evidence(seed)
    both = run.predictions.assign(predicted=run.logits.argmax(1)).groupby("role")[["label", "predicted"]]
    truth = {role: part.to_numpy().T for role, part in both}
    by_role = {role: sklearn_metrics.accuracy_score(*both) for role, both in truth.items()}
    found = values("accuracy", run)
    assert found[("ua",)] == pytest.approx(1 - by_role["forget"])
    assert found[("ra",)] == pytest.approx(by_role["retain"])
    assert found[("ta",)] == pytest.approx(by_role["test"])

    recall = sklearn_metrics.recall_score(*truth["test"], average=None)
    found = values("class_accuracy", run)
    assert [found[("class_accuracy", "test", c)] for c in range(3)] == pytest.approx(recall)
    assert found[("class_disparity", "test")] == pytest.approx(np.ptp(recall))
    assert found[("worst_class_accuracy", "test")] == pytest.approx(recall.min())


@pytest.mark.parametrize("skill", [0.0, 2.0])
def test_mia_efficacy_by_a_script_of_its_own(skill):
    """As many members as non-members, one feature, the forget set's share of "unseen"."""
    run = evidence(3, (60, 20, 25), skill=skill)
    labels = run.predictions["label"]
    confidence = np.array([softmax(row.astype(float))[y] for row, y in zip(run.logits, labels, strict=True)])
    role = run.predictions["role"].to_numpy()
    members = confidence[role == "retain"][[round(i * 59 / 24) for i in range(25)]]
    train = np.concatenate([members, confidence[role == "test"]]).reshape(-1, 1)
    seen = SVC(kernel="rbf", C=3, gamma=1.0).fit(train, ["seen"] * 25 + ["unseen"] * 25).predict
    share = np.mean(seen(confidence[role == "forget"].reshape(-1, 1)) == "unseen")
    assert values("mia_efficacy", run)[("mia_efficacy",)] == pytest.approx(share)


def test_mia_efficacy_of_what_is_plainly_seen_or_unseen():
    draw = np.random.default_rng(0)
    high, low = 0.99 + 0.01 * draw.random((3, 40)), 0.3 + 0.1 * draw.random((3, 40))
    assert mia_efficacy.efficacy(high[0], low[0], high[1]) == 0.0
    assert mia_efficacy.efficacy(high[0], low[0], low[1]) == 1.0


# --- properties -----------------------------------------------------------------------------------

runs = st.builds(
    evidence,
    seed=st.integers(0, 10**6),
    counts=st.tuples(st.integers(6, 20), st.integers(2, 9), st.integers(6, 20)),
    classes=st.integers(2, 5),
    skill=st.floats(0, 5),
)
DRAWN = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking a failure takes ten minutes
few = settings(max_examples=15, deadline=None, phases=DRAWN)
fewer = settings(max_examples=5, deadline=None, phases=DRAWN)  # three runs have to be measured for each


def assert_bounds(found):
    for row in found.values():
        if row.reason:
            assert np.isnan(row.value)
            continue
        low, high = DECLARED[row.metric].low, DECLARED[row.metric].high
        assert np.isfinite(row.value)
        assert low is None or row.value >= low
        assert high is None or row.value <= high
        assert row.n > 0


@pytest.mark.parametrize("name", ABSOLUTE)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.0, 1.0, 1e3]), skill=st.floats(0, 5))
@few
def test_values_keep_the_declared_bounds(name, seed, scale, skill):
    """Also for models that say nothing, and for ones far too sure."""
    assert_bounds(rows(name, evidence(seed, scale=scale, skill=skill)))


@pytest.mark.parametrize("name", RELATIVE)
@given(run=runs, seed=st.integers(0, 99), noise=st.sampled_from([0.0, 1e-4, 1.0, 1e3]))
@fewer
def test_relative_values_keep_the_declared_bounds(name, run, seed, noise):
    assert_bounds(rows(name, measured(run), another(run, seed, noise), knowing(run, seed + 1, noise)))


def shuffled(run, seed):
    """The run with the rows of its tables in another order."""
    order = np.random.default_rng(seed).permutation(len(run.predictions))
    return replace(
        run,
        predictions=run.predictions.iloc[order].reset_index(drop=True),
        logits=run.logits[order],
        adversarial=run.adversarial.sample(frac=1, random_state=seed),
        activations=run.activations.sample(frac=1, random_state=seed),
        relearning=run.relearning.sample(frac=1, random_state=seed),
        features=Features(
            run.features.images.iloc[order].reset_index(drop=True),
            {layer: x[order] for layer, x in run.features.layers.items()},
        ),
    )


@pytest.mark.parametrize("name", ABSOLUTE)
@given(run=runs, seed=st.integers(0, 99))
@few
def test_order_of_samples_means_nothing(name, run, seed):
    assert values(name, shuffled(run, seed)) == pytest.approx(values(name, run))


@pytest.mark.parametrize("name", RELATIVE)
@given(run=runs, seed=st.integers(0, 99))
@fewer
def test_order_of_samples_means_nothing_to_comparisons(name, run, seed):
    run, other, third = measured(run), another(run), knowing(run, 2)
    expected = values(name, run, other, third)
    assert values(name, shuffled(run, seed), other, shuffled(third, seed)) == pytest.approx(expected)


def renamed(run, new):
    """The run with class c called new[c]."""
    return replace(
        run,
        predictions=run.predictions.assign(label=new[run.predictions["label"]]),
        logits=run.logits[:, np.argsort(new)],
        adversarial=run.adversarial.assign(
            label=new[run.adversarial["label"]], predicted=new[run.adversarial["predicted"]]
        ),
        activations=run.activations.assign(**{"class": new[run.activations["class"]]}),
        features=replace(run.features, images=run.features.images.assign(label=new[run.features.images["label"]])),
    )


@pytest.mark.parametrize("name", ABSOLUTE)
@given(run=runs, seed=st.integers(0, 99))
@few
def test_names_of_classes_mean_nothing(name, run, seed):
    new = np.random.default_rng(seed).permutation(run.logits.shape[1])

    def told(found, name_of=lambda label: label):
        return {
            row._replace(label=name_of(row.label), value=0): None if row.reason else row.value for row in found.values()
        }

    expected = told(rows(name, run), lambda label: None if label is None else int(new[label]))
    assert told(rows(name, renamed(run, new))) == pytest.approx(expected)


@pytest.mark.parametrize("name", RELATIVE)
@given(run=runs, seed=st.integers(0, 99))
@fewer
def test_names_of_classes_mean_nothing_to_comparisons(name, run, seed):
    new = np.random.default_rng(seed).permutation(run.logits.shape[1])
    everyone = measured(run), another(run), knowing(run, 2)
    expected = values(name, *everyone)
    assert values(name, *(measured(renamed(one, new)) for one in everyone)) == pytest.approx(expected)


@given(sigma=st.lists(st.floats(0.01, 100), min_size=2, max_size=10), factor=st.floats(0.01, 100))
def test_the_relative_gap_has_no_unit(sigma, factor):
    sigma, gap, relative_gap = np.array(sigma), fairness_gap.gap, fairness_gap.relative_gap
    assert relative_gap(sigma * factor) == pytest.approx(relative_gap(sigma), rel=1e-9, abs=1e-9)
    assert gap(sigma * factor) == pytest.approx(gap(sigma) * factor, rel=1e-9, abs=1e-9)


# --- forgotten classes ----------------------------------------------------------------------------


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("name", ABSOLUTE)
def test_which_rows_there_are_does_not_hang_on_the_outcome(name, right):
    """As when a class is forgotten: exact retraining recognises none of its images, the original all."""
    run = evidence()
    forget, attacked = (f["role"].to_numpy() == "forget" for f in (run.predictions, run.adversarial))
    logits = run.logits.copy()
    hot = np.eye(logits.shape[1])[run.predictions["label"]]
    logits[forget] = (10 * (hot if right else -hot))[forget]
    adversarial = run.adversarial.copy()
    adversarial.loc[attacked, ["eps", "by"]] = [np.nan if right else 0.0, None]
    recovery = run.recovery.assign(eps=0.0 if right else np.nan, by=None)
    other = replace(run, logits=logits, adversarial=adversarial, recovery=recovery)
    assert rows(name, other).keys() == rows(name, run).keys()


def test_test_images_of_forgotten_classes_are_left_out():
    run = evidence(forgotten=1)
    assert run.forgotten_classes == {1}
    kept = run.predictions["role"].eq("test") & run.predictions["label"].ne(1)
    assert rows("accuracy", run)[("ta",)].n == kept.sum()
    assert ("class_accuracy", "test", 1) not in rows("class_accuracy", run)
    attacked = rows("robust_accuracy", run)
    assert attacked[("robust_accuracy", "test", "pgd", 0.1)].n == kept.sum()
    assert attacked[("robust_accuracy", "forget", "pgd", 0.1)].n == 12
    gaps = rows("fairness_gap", run)
    assert gaps[("fairness_gap", "test", "norm1")].n == 10, "five images of two classes"


@pytest.mark.parametrize("name", [name for name in plugins.names("metrics") if name != "neighbour_mia"])
def test_outputs_for_test_images_of_forgotten_classes_mean_nothing(name):
    """Whatever the model says of them, no metric changes. An attack by neighbouring classes is about these images."""
    run = evidence(forgotten=1)
    hidden = (run.predictions["role"].eq("test") & run.predictions["label"].eq(1)).to_numpy()
    assert hidden.any()
    wild = replace(run, logits=np.where(hidden[:, None], 7 - 3 * run.logits, run.logits))
    layers = {layer: np.where(hidden[:, None], 7 - 3 * x, x) for layer, x in run.features.layers.items()}
    wild = replace(wild, features=replace(run.features, layers=layers))
    attacked = run.adversarial["role"].eq("test") & run.adversarial["label"].eq(1)
    wild = replace(wild, adversarial=run.adversarial.assign(eps=run.adversarial["eps"].mask(attacked, 0.0)))
    if name in ABSOLUTE:
        assert values(name, wild) == values(name, run)
    if name in RELATIVE:
        run, wild, other = measured(run), measured(wild), another(run)
        assert values(name, wild, other) == values(name, run, other)


def test_a_class_of_which_some_is_retained_is_not_forgotten():
    assert evidence().forgotten_classes == frozenset()


# --- what a method may leave behind ---------------------------------------------------------------


def outcome(run, logits, eps, margin=0.1):
    """The run with these logits, margins, and radii that fool an image."""
    attacked, recovery = (frame.assign(eps=eps, by=None) for frame in (run.adversarial, run.recovery))
    predictions = run.predictions.assign(margin=margin)
    return replace(run, predictions=predictions, logits=logits, adversarial=attacked, recovery=recovery)


def hot(run):
    return np.eye(run.logits.shape[1], dtype=np.float32)[run.predictions["label"]]


LEFT = {
    "ordinary": lambda run: run,
    "constant logits": lambda run: outcome(run, 0 * run.logits, np.nan, np.nan),
    "huge logits": lambda run: outcome(run, (np.sign(run.logits) * 1e30).astype(np.float32), 0.1),
    "largest logits": lambda run: outcome(run, (np.sign(run.logits) * 3e38).astype(np.float32), 0.1),
    "nothing right": lambda run: outcome(run, -9 * hot(run), 0.0, -0.1),
    "all right, and no attack finds anything": lambda run: outcome(run, 9 * hot(run), np.nan),
}
SHAPES = {
    "ordinary": {},
    "a forgotten class": {"forgotten": 1},
    "one forgotten image": {"counts": (30, 1, 18)},
    "one forgotten image, the last of its class": {"counts": (30, 1, 18), "forgotten": 1},
    "one retained image": {"counts": (1, 12, 18)},
    "one test image": {"counts": (30, 12, 1)},
    "one image of each role": {"counts": (1, 1, 1)},
    "no test image of a class": {"counts": (30, 12, 2)},
    "test images of one class": {"classes": 2, "forgotten": 1},
}


@functools.cache
def left(shape, what):
    run = LEFT[what](evidence(**SHAPES[shape]))
    return measured(run)


def assert_whole(found, ordinary):
    """The same rows as of an ordinary run, each with a value within its bounds, or a reason why there is none."""
    assert found.keys() == ordinary.keys()
    assert all(row.reason is None or row.reason.strip() for row in found.values())
    assert_bounds(found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_every_metric_yields_its_rows_whatever_a_method_leaves_behind(name, shape):
    ordinary = left(shape, "ordinary")
    absolute = rows(name, ordinary) if name in ABSOLUTE else {}
    relative = rows(name, ordinary, ordinary) if name in RELATIVE else {}
    for run in (left(shape, what) for what in LEFT):
        if name in ABSOLUTE:
            assert_whole(rows(name, run), absolute)
        if name in RELATIVE:
            for pair in ((run, ordinary), (ordinary, run), (run, run)):
                assert_whole(rows(name, *pair), relative)


def nulls(name, *runs):
    """Key → reason of the rows without a value."""
    return {key: row.reason for key, row in rows(name, *runs).items() if row.reason}


def test_what_has_no_value_says_why():
    constant = left("ordinary", "constant logits")
    reason = "no image has a gradient: the logits do not depend on it"
    assert nulls("linearised_margin", constant) == {("linearised_margin", role): reason for role in ROLES}
    wrong = nulls("robust_accuracy", left("ordinary", "nothing right"))
    assert {key[0] for key in wrong} == {"robust_given_correct"}
    assert set(wrong.values()) == {"no attacked image is classified correctly"}
    one = left("test images of one class", "ordinary")
    for name, absent in (
        ("class_accuracy", {"class_disparity"}),
        ("class_robustness", {"class_robust_disparity"}),
        ("class_fairness", set(class_fairness.ABSOLUTE)),
        ("mia_efficacy", {"class_mia_disparity"}),
    ):
        assert {key[0] for key in nulls(name, one)} == absent
        assert set(nulls(name, one).values()) == {api.ONE_CLASS}
    assert {key[0] for key in nulls("class_fairness", one, one)} == {
        *("induced_disparity_retrain", "induced_disparity_original", "class_disparity_gap")
    }


@pytest.mark.parametrize("name", ["average_gap", "tow"])
def test_a_comparison_without_one_of_its_values_has_none(name):
    run = measured(evidence())
    gone = run.metrics["metric"] == "mia_efficacy"
    null = replace(run, metrics=run.metrics.assign(value=run.metrics["value"].mask(gone), reason="no reason"))
    key = {"average_gap": ("average_gap",), "tow": ("tow_mia",)}[name]
    assert nulls(name, null, run) == {key: "mia_efficacy: no reason"}
    assert nulls(name, run, null) == {key: "exact retraining: mia_efficacy: no reason"}


@pytest.mark.parametrize(("name", "of"), [("residual", "recognition"), ("robust_gap", "robust_accuracy")])
def test_a_difference_without_one_of_its_values_has_none(name, of):
    run = measured(evidence())
    gone = run.metrics.eval(f"metric == '{of}' and eps.fillna(0) == 0.1 and role.fillna('') == 'forget'")
    null = replace(run, metrics=run.metrics.assign(value=run.metrics["value"].mask(gone), reason="why"))
    own, theirs = nulls(name, null, run), nulls(name, run, null)
    assert own.keys() == theirs.keys()
    assert {key[1] for key in own} == {"forget"}
    assert set(own.values()) == {"why"}
    assert set(theirs.values()) == {"exact retraining: why"}


def test_a_ratio_to_nothing_has_no_value():
    run, other = measured(evidence()), measured(evidence())
    other.metrics.loc[other.metrics["metric"] == "peak_memory", "value"] = 0
    assert nulls("cost", run, other) == {("relative_memory",): "exact retraining: peak_memory is 0"}


# --- what is not defined --------------------------------------------------------------------------


def without(run, role):
    chosen = (run.predictions["role"] != role).to_numpy()
    return replace(run, predictions=run.predictions[chosen], logits=run.logits[chosen])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["accuracy", "mia_efficacy", "mia"])
def test_an_empty_role_is_an_error(name, role):
    """Never a default such as 0.5."""
    with pytest.raises(MetricError, match=f"no predictions for role '{role}'"):
        rows(name, without(evidence(), role))


def test_no_test_images_have_no_classes():
    with pytest.raises(MetricError, match="no predictions for role 'test'"):
        rows("class_accuracy", without(evidence(), "test"))


def test_a_fairness_gap_needs_two_classes():
    run = evidence()
    one = replace(run, activations=run.activations[run.activations["class"] == 0])
    assert rows("fairness_gap", one).keys() == rows("fairness_gap", run).keys()
    assert {row.reason for row in rows("fairness_gap", one).values()} == {api.ONE_CLASS}


def test_references_must_have_been_attacked_alike():
    run = measured(evidence())
    other = replace(run, metrics=run.metrics[run.metrics["eps"].ne(0.2).fillna(True)])
    with pytest.raises(MetricError, match="other attacks, radii, layers or roles"):
        rows("robust_gap", run, other)


def test_relative_metrics_say_what_they_need():
    run = measured(evidence())
    less = replace(run, metrics=run.metrics[run.metrics["metric"] != "mia_efficacy"])
    with pytest.raises(MetricError, match=r"needs one value of 'mia_efficacy', found 0; is it in the config's metrics"):
        rows("average_gap", less, run)


# --- the stage ------------------------------------------------------------------------------------

RUN = Run("net", "ten", "cf", "all", 0)


@pytest.fixture(scope="module")
def run_files(tmp_path_factory):
    """``run_files(**run)``: the arguments of ``measure`` for an imaginary run, with files; without references."""

    @functools.cache
    def write(**identity):
        run, found = replace(RUN, **identity), evidence()
        folder, spread = tmp_path_factory.mktemp("run"), found.activations
        known = imaginary_features(found.features.images, 0, told=3.0 if run.method == "original" else 0.0)
        given = {
            "predictions": {**found.predictions, "logits": tables.rows(found.logits)},
            "adversarial": pd.concat([found.adversarial, found.recovery]),
            "activations": {**spread, "mean": spread["sigma"], "channel": [None] * len(spread)},
            "cost": {**found.cost, "parameters": [9], "trainable_layers": [2], "layers": [3], "precision": ["float32"]},
            "relearning": found.relearning,
        }
        paths = {kind: str(folder / f"{kind}.parquet") for kind in given}
        attacks = given.pop("adversarial")
        for kind, columns in given.items():
            tables.write(TABLES[kind], paths[kind], columns, {}, run)
        paths["adversarial"] = [str(folder / f"adversarial-{attack}.parquet") for attack in found.radii]
        for (attack, columns), path in zip(attacks.groupby("attack"), paths["adversarial"], strict=True):
            described = {"attack": attack, "radii": list(found.radii[attack]), "checks": found.checks[attack]}
            tables.write(ADVERSARIAL, path, columns, described, run)
        paths["features"] = str(folder / "features.parquet")
        with tables.Writer(FEATURES, paths["features"], {}, run) as writer:
            for depth, (layer, x) in enumerate(known.items()):
                columns = {**found.features.images, "layer": layer, "depth": depth}
                writer.write({**columns, "features": tables.rows(x.astype(np.float16))})
        return {"run": run, **paths, "out": str(folder / "metrics.parquet"), "metrics": plugins.names("metrics")}

    return write


@pytest.fixture(scope="module")
def group(run_files):
    """``group(**change)``: exact retraining, measured, and the original, as ``measure`` takes them."""

    @functools.cache
    def make(**change):
        exact, original = (run_files(method=name, **change) for name in ("retrain", "original"))
        paths = {
            f"{name}_{kind}": files[kind]
            for name, files in (("retrain", exact), ("original", original))
            for kind in ("predictions", "features")
        }
        measure.measure(**exact, **paths, retrain_metrics=None)
        return {**paths, "retrain_metrics": exact["out"]}

    return make


def test_measure_writes_every_declared_metric(run_files, group):
    own = run_files()
    measure.measure(**own, **group())
    found = tables.read(METRICS, own["out"]).to_pandas()
    assert set(found["metric"]) == set(DECLARED)
    assert set(found["method"]) == {"cf"}


@pytest.mark.parametrize(
    "file",
    ["retrain_predictions", "original_predictions", "retrain_features", "original_features", "retrain_metrics"],
)
@pytest.mark.parametrize("change", [{"arch": "other"}, {"forget": "half"}, {"seed": 1}])
def test_measure_refuses_the_reference_of_another_group(run_files, group, change, file):
    wrong = {**group(), file: group(**change)[file]}
    with pytest.raises(MetricError, match=f"is the reference of {next(iter(change))}"):
        measure.measure(**run_files(), **wrong)


def test_measure_refuses_references_of_other_methods(run_files, group):
    found = group()
    swapped = {**found, "original_predictions": found["retrain_predictions"]}
    with pytest.raises(MetricError, match=r"is the reference of method .*retrain.*, not original"):
        measure.measure(**run_files(), **swapped)


@pytest.mark.parametrize("change", [{}, {"method": "retrain", "scope": "last"}, {"method": "original"}])
def test_only_exact_retraining_is_its_own_reference(run_files, group, change):
    with pytest.raises(MetricError, match="needs the metrics of exact retraining"):
        measure.measure(**run_files(**change), **{**group(), "retrain_metrics": None})


def test_measure_names_the_metric_at_fault(run_files, group, monkeypatch):
    found = group()
    monkeypatch.setattr(accuracy, "METRICS", {"ua": accuracy.METRICS["ua"]})
    with pytest.raises(MetricError, match=r"metric 'accuracy' yields ra, ta, which its METRICS do not declare"):
        measure.measure(**run_files(), **found)


@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, None), (0.5, "why"), (np.inf, None), (np.inf, "why"), (-np.inf, "why")]
)
def test_measure_refuses_a_value_without_a_reason_and_a_reason_beside_one(run_files, group, monkeypatch, value, reason):
    found = group()
    monkeypatch.setattr(accuracy, "compute", lambda run: iter([api.Row("ua", value, 1, reason=reason)]))
    with pytest.raises(MetricError, match=r"metric 'accuracy', ua: .* must be a number, or NaN with a reason"):
        measure.measure(**run_files(), **found)


def test_measure_writes_what_has_no_value_as_null(run_files, group, monkeypatch):
    """And comparisons with it go on."""
    own, found = run_files(), group()
    monkeypatch.setattr(mia_efficacy, "compute", lambda run: iter([api.no_value("mia_efficacy", "why", 3)]))
    measure.measure(**own, **found)
    table = tables.read(METRICS, own["out"]).to_pandas().set_index("metric")
    assert table.loc["mia_efficacy", ["n", "reason"]].tolist() == [3, "why"]
    assert table.loc["average_gap", "reason"] == "mia_efficacy: why"
    assert table["value"].isna().equals(table["reason"].notna())
    assert table["value"].notna().sum() > 100


# --- examples in docstrings -----------------------------------------------------------------------

DOCUMENTED = [f"metrics.{name}" for name in plugins.names("metrics")]


@pytest.mark.parametrize("name", ["metrics", *DOCUMENTED, "analysis.comparisons", "analysis.correlations"])
def test_examples(name):
    module = importlib.import_module(f"unlearn.{name}")
    failed, tried = doctest.testmod(module, extraglobs={"np": np})
    assert failed == 0
    assert tried == inspect.getsource(module).count(">>> ")


PURE = (
    (accuracy, ("accuracy",)),
    (fairness_gap, ("gap", "relative_gap")),
    (mia_efficacy, ("confidence",)),
    (mia, ("probabilities", "entropy", "modified_entropy", "loss", "best_threshold")),
    (divergence, ("jensen_shannon",)),
    (api, ("per_class",)),
    (cka, ("cka",)),
    (idi, ("balanced",)),
    (calibration, ("calibration_error",)),
    (class_fairness, ("ratio", "false_positive_rates", "excess_shares")),
)


def test_pure_functions_have_examples():
    for module, functions in PURE:
        for function in functions:
            assert ">>>" in getattr(module, function).__doc__
