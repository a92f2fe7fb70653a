"""U-LiRA: shadow models that learn halves and forget parts of them, and an attack on each by the others.

Published scorers score 0/1 correctness instead of logits, score the models that they fitted, and divide
by deviations of 0; each has a test here that it would fail.
"""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import EXECUTION
from scipy.special import softmax
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from unlearn.analysis.comparisons import AnalysisError
from unlearn.analysis.ulira import attack, log_ratio, measures
from unlearn.config import contracts, plugins
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET
from unlearn.io.schema.shadow import SHADOW
from unlearn.io.schema.split import SPLIT
from unlearn.io.schema.tuning import TUNING
from unlearn.io.schema.ulira import ULIRA
from unlearn.run import REFERENCE, Run
from unlearn.stages.shadow_split import ShadowSettings, shadow_split
from unlearn.stages.split import SplitError

CELL = {"arch": "net", "method": "cf", "scope": "all"}


# --- the attack -----------------------------------------------------------------------------------


def population(shadows, count, signal=0.0, seed=0, spread=0.5):
    """A frame of shadow tables whose forgotten images score ``signal`` of an image's deviations too high."""
    rng = np.random.default_rng(seed)
    quarters = np.repeat(["forgotten", "retained", "unseen", "unseen"], count // 4)
    status = np.array([rng.permutation(quarters) for _ in range(shadows)])
    deviation = np.exp(spread * rng.normal(size=count))
    shift = signal * (status == "forgotten") + 5 * (status == "retained")
    return frame(3 * rng.normal(size=count) + deviation * (rng.normal(size=status.shape) + shift), status)


def frame(score, status):
    """Shadow tables of scores and statuses [K, N] as one frame."""
    shadow, image = np.indices(score.shape)
    columns = {"shadow": shadow, "id": image, "status": status, "score": score}
    return pd.DataFrame(CELL | {key: np.asarray(value).ravel() for key, value in columns.items()})


def attacked(shadows, confidence=0.95):
    return attack(shadows, confidence).set_index("statistic")


@pytest.mark.parametrize("signal", [0.5, 1, 2])
def test_a_planted_signal_is_found_as_well_as_it_can_be(signal):
    """With known Gaussians a distance d gives AUC Φ(d/√2), balanced accuracy Φ(d/2), TPR Φ(d + Φ⁻¹(FPR))."""
    found = attacked(population(80, 400, signal))
    assert found.loc["auc", "value"] == pytest.approx(norm.cdf(signal / math.sqrt(2)), abs=0.025)
    assert found.loc["balanced_accuracy", "value"] == pytest.approx(norm.cdf(signal / 2), abs=0.025)
    best = norm.cdf(signal + norm.ppf(0.01))
    assert found.loc["tpr_at_fpr_0.01", "value"] == pytest.approx(best, abs=0.35 * best)


@pytest.mark.parametrize("shadows", [8, 16])
def test_nothing_is_found_where_nothing_is(shadows):
    """Models that take part in their own Gaussians would look like members, the more the fewer they are."""
    found = attacked(population(shadows, 2000))
    assert found.loc["auc", "value"] == pytest.approx(0.5, abs=0.015)
    assert found.loc["balanced_accuracy", "value"] == pytest.approx(0.5, abs=0.015)
    assert found.loc["tpr_at_fpr_0.01", "value"] == pytest.approx(0.01, abs=0.01)


def test_the_sign_of_the_signal_does_not_matter():
    """Forgetting too much betrays an image as well as forgetting too little."""
    assert attacked(population(16, 1000, -2)).loc["auc", "value"] > 0.85


def test_the_ratio_is_that_of_a_naive_implementation():
    shadows = population(9, 40, 1)
    score, status = (shadows.pivot(index="shadow", columns="id", values=v).to_numpy() for v in ("score", "status"))
    found, scored = log_ratio(score.astype(float), status == "forgotten", status == "unseen")
    assert 20 < scored.sum() < (status != "retained").sum()
    for k, x in itertools.product(range(9), range(40)):
        u, r = ([score[j, x] for j in range(9) if j != k and status[j, x] == side] for side in ("forgotten", "unseen"))
        assert scored[k, x] == (status[k, x] != "retained" and len(u) >= 2 and len(r) >= 2)
        if scored[k, x]:
            deviation = math.sqrt((np.var(u) * len(u) + np.var(r) * len(r)) / (len(u) + len(r) - 2))
            densities = [norm(np.mean(side), deviation).pdf(score[k, x]) for side in (u, r)]
            assert found[k, x] == pytest.approx(math.log(densities[0] / densities[1]))


def test_scales_of_images_mean_nothing():
    """Any increasing affine map per image leaves the attack as it is."""
    shadows = population(10, 200, 1)
    rng = np.random.default_rng(1)
    shift, scale = 10 * rng.normal(size=200), rng.uniform(0.1, 10, size=200)
    moved = shadows.assign(score=shadows["score"] * scale[shadows["id"]] + shift[shadows["id"]])
    assert attacked(moved)["value"].to_numpy() == pytest.approx(attacked(shadows)["value"].to_numpy(), abs=1e-9)


@pytest.mark.parametrize("by_image", [False, True])
def test_scores_that_agree_say_nothing(by_image):
    """A deviation of 0 is no reason for NaN: constant models, or models that agree on each image."""
    shadows = population(8, 100)
    found = attacked(shadows.assign(score=shadows["id"] / 7 if by_image else 0.1))
    assert found["value"].to_dict() == {
        "auc": 0.5, "balanced_accuracy": 0.5, "tpr_at_fpr_0.01": 0.0, "tpr_at_fpr_0.001": 0.0
    }  # fmt: skip
    assert np.isfinite(found.loc[["auc", "balanced_accuracy"], ["low", "high"]].to_numpy()).all()


def test_a_perfect_signal_without_deviation_is_found():
    shadows = population(8, 100)
    found = attacked(shadows.assign(score=(shadows["status"] == "forgotten").astype(float)))
    assert (found["value"] == 1).all()


def test_pairs_with_too_few_others_are_left_out_and_counted():
    """An image that two forgot is not scored for these two, who have one such other each."""
    names = {"f": "forgotten", "u": "unseen", "r": "retained"}
    images = {"fffuuu": 6, "uuufff": 6, "ffuuuu": 4, "fuuuuu": 0, "rrruuu": 0}
    status = np.array([[names[letter] for letter in image] for image in images]).T
    score = np.random.default_rng(0).normal(size=status.shape)
    _, scored = log_ratio(score, status == "forgotten", status == "unseen")
    assert scored.sum(0).tolist() == list(images.values())
    found = attacked(frame(score, status))
    assert set(found["n"]) == {6 + 6 + 4}
    assert set(found["left_out"]) == {2 + 6 + 3}
    with pytest.raises(AnalysisError, match=r"net, cf, all: 5 shadows are too few"):
        attacked(frame(score[:, 1:], status[:, 1:]))


def test_models_that_do_not_belong_together_are_refused():
    shadows = population(6, 40)
    with pytest.raises(AnalysisError, match="2 methods and scopes"):
        attacked(shadows.assign(scope=np.where(shadows["shadow"] == 0, "last", "all")))
    with pytest.raises(AnalysisError, match=r"net, cf, all: .*same images"):
        attacked(shadows.iloc[1:])


def test_order_of_rows_means_nothing():
    shadows = population(8, 100, 1)
    pd.testing.assert_frame_equal(attacked(shadows), attacked(shadows.sample(frac=1, random_state=0)))


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_those_of_scikit_learn(seed):
    """With ties."""
    rng = np.random.default_rng(seed)
    statistic = np.sort(rng.integers(-20, 20, size=3000))[::-1] / 4
    forgotten = rng.random(3000) < 1 / (1 + np.exp(-statistic))
    fpr, tpr, _ = roc_curve(forgotten, statistic, drop_intermediate=False)
    assert measures(statistic, forgotten) == pytest.approx(
        {
            "auc": roc_auc_score(forgotten, statistic),
            "balanced_accuracy": balanced_accuracy_score(forgotten, statistic > 0),
            "tpr_at_fpr_0.01": tpr[fpr <= 0.01].max(),
            "tpr_at_fpr_0.001": tpr[fpr <= 0.001].max(),
        }
    )


def test_a_rate_is_that_of_the_last_threshold_which_allows_it():
    """1 of 100 unseen images is 1 %, and allowed; of 1,000 the second makes 0.2 %, and is not."""
    for count, allowed, name in ((100, 1, "tpr_at_fpr_0.01"), (1000, 1, "tpr_at_fpr_0.001")):
        forgotten = np.array([*[True, False] * 3, *[False] * (count - 3)])
        found = measures(-np.arange(len(forgotten)), forgotten)
        assert found[name] == (allowed + 1) / 3


def test_intervals_are_those_of_the_jackknife_over_shadows():
    shadows = population(9, 200, 1)
    found = attacked(shadows, confidence=0.9)
    without = np.array([attacked(shadows[shadows["shadow"] != k])["value"] for k in range(9)])
    error = np.sqrt(8 / 9 * ((without - without.mean(0)) ** 2).sum(0))
    half = student.ppf(0.95, 8) * error
    np.testing.assert_allclose(found["low"][:2], np.clip(found["value"] - half, 0, 1)[:2])
    np.testing.assert_allclose(found["high"][:2], np.clip(found["value"] + half, 0, 1)[:2])
    assert found[["low", "high"]][2:].isna().all(axis=None), "no jackknife holds for a quantile"
    assert 0.01 < half[0] < 0.2


@pytest.mark.parametrize("offset", [0, 1.5])
@pytest.mark.slow
def test_intervals_hold_chance_where_there_is_nothing_to_find(offset):
    """Models that differ in their mean score hang together: images are not independent."""
    held = 0
    for seed in range(40):
        shadows = population(10, 200, seed=seed)
        level = offset * np.random.default_rng(seed).normal(size=10)
        found = attacked(shadows.assign(score=shadows["score"] + level[shadows["shadow"]])).loc["auc"]
        held += found["low"] <= 0.5 <= found["high"]
    assert held >= 38


def test_the_stage_writes_the_table_of_a_cell(tmp_path):
    from unlearn.stages.ulira import ulira

    shadows, paths = population(8, 100, 2), []
    for number, part in shadows.groupby("shadow"):
        paths.append(tmp_path / f"{number}.parquet")
        tables.write(SHADOW, paths[-1], part.reset_index(drop=True), {})
    ulira(paths, paths, tmp_path / "ulira.parquet", 0.95)
    found = tables.read(ULIRA, tmp_path / "ulira.parquet").to_pandas()
    found = found[~found["statistic"].str.startswith("klom")]  # test_klom
    pd.testing.assert_frame_equal(
        found.set_index("statistic"), attacked(shadows)[found.columns.drop("statistic")], check_dtype=False
    )
    assert found[list(CELL)].drop_duplicates().to_dict("records") == [CELL]


# --- the score ------------------------------------------------------------------------------------


def test_score_is_the_logit_of_the_confidence():
    from unlearn.stages.shadow import logit_confidence

    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(50, 5)).astype(np.float32), rng.integers(5, size=50)
    p = softmax(logits.astype(float), axis=1)[np.arange(50), labels]
    given = logits.copy()
    np.testing.assert_allclose(logit_confidence(labels, logits), np.log(p / (1 - p)))
    np.testing.assert_array_equal(logits, given)


def test_score_tells_certain_models_apart():
    """Where correctness is 1 and the confidence rounds to 1 or 0, the score still grows with the margin."""
    from unlearn.stages.shadow import logit_confidence

    margins = np.array([50, 100, 1e4, -50, -1e4], np.float32)
    found = logit_confidence(np.zeros(5, int), np.stack([margins, np.zeros(5, np.float32)], 1))
    assert found.tolist() == margins.tolist()


# --- the shadows ----------------------------------------------------------------------------------


def roles(path):
    """Role → ids of a split table."""
    return tables.read(SPLIT, path).to_pandas().groupby("role")["id"].agg(set).to_dict()


@pytest.fixture
def shadow_splits(dataset, tmp_path):
    """``shadow_splits(shadow, **settings)``: paths of half and split of a shadow on ``dataset``."""

    def make(shadow, name="shadow", source=dataset, **settings):
        paths = [str(tmp_path / f"{name}{shadow}-{part}.parquet") for part in ("half", "split")]
        shadow_split(source, *paths, shadow, ShadowSettings(**{"fraction": 0.5, "seed": 2000, **settings}))
        return paths

    return make


def test_a_shadow_learns_half_and_forgets_a_fraction_of_it(shadow_splits):
    learned, forgotten = [], []
    for shadow in range(8):
        half, split = map(roles, shadow_splits(shadow, fraction=0.3))
        assert {role: len(ids) for role, ids in split.items()} == {"forget": 6, "retain": 14, "unseen": 20, "test": 16}
        assert half == {"retain": split["retain"] | split["forget"], "unseen": split["unseen"], "test": split["test"]}
        assert set.union(*split.values()) == set(range(56))
        assert split["test"] == set(range(40, 56))
        learned.append(half["retain"])
        forgotten.append(split["forget"])
    assert len(set(map(frozenset, learned))) == len(set(map(frozenset, forgotten))) == 8
    overlap = [len(a & b) for a, b in itertools.combinations(learned, 2)]
    assert 8 < np.mean(overlap) < 12, "independent halves share a quarter of the images"


def test_shadow_splits_depend_on_their_seed_and_number_alone(shadow_splits):
    one, same, other = (roles(shadow_splits(3, name, seed=seed)[1]) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    assert one == same != other
    assert one != roles(shadow_splits(4, seed=5)[1])


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_shadow_must_forget_something_and_keep_something(shadow_splits, fraction):
    with pytest.raises(SplitError, match=r"settings\.ulira\.fraction: forgets (0|20) of a shadow's 20 images"):
        shadow_splits(0, fraction=fraction)


@pytest.fixture
def shadows(architecture, dataset, shadow_splits, tmp_path):
    """``shadows(method, number)``: the shadow table of a tiny model, as a frame, for any ``source``
    dataset; ``shadows.pretrained(number)``: the path of its weights before it forgot."""
    from unlearn.stages.shadow import shadow
    from unlearn.stages.unlearn import unlearn
    from unlearn.training.artifacts import TrainingSettings

    recipe = TrainingSettings(model=architecture, method={"epochs": 2, "batch_size": 8, "lr": 0.05}, **EXECUTION)
    own = {"retrain": recipe, "original": TrainingSettings(method={}, **EXECUTION)}
    own["cf"] = TrainingSettings(method={"epochs": 1, "batch_size": 8, "lr": 0.05}, **EXECUTION)

    def pretrained(number, source=dataset, name="a"):
        out = [str(tmp_path / f"{name}{number}" / file) for file in ("model.safetensors", "history", "cost")]
        run = Run("net", "half", "retrain", "all", 2000 + number)
        unlearn(run, source, shadow_splits(number, name)[0], *out, recipe, "cpu")
        return out[0]

    def make(method, number, source=dataset, name="a", scope="all", settings=None, tuning=None):
        out = str(tmp_path / f"{name}{number}-{method}.parquet")
        run = Run("net", "shadow", method, scope, 2000 + number)
        original = None if (method, scope) == REFERENCE else pretrained(number, source, name)
        split = shadow_splits(number, name)[1]
        shadow(run, number, source, split, out, settings or own[method], "cpu", original, tuning)
        return tables.read(SHADOW, out).to_pandas()

    make.pretrained, make.recipe = pretrained, recipe
    return make


@pytest.fixture
def edited(dataset, tmp_path):
    """``edited(name, column, ids, value)``: the path of a copy of ``dataset`` with that value for these images."""

    def edit(name, column, ids, value):
        found = tables.read(DATASET, dataset).to_pandas()
        found[column] = [value if i in ids else old for i, old in zip(found["id"], found[column])]
        path = str(tmp_path / f"{name}.parquet")
        tables.write(DATASET, path, found, {key: tables.metadata(dataset)[key] for key in ("classes", "shape")})
        return path

    return edit


@pytest.mark.parametrize("method", ["original", "retrain", "cf"])
def test_statuses_partition_the_training_images(shadows, shadow_splits, method):
    for number in range(4):
        found = shadows(method, number)
        half, split = map(roles, shadow_splits(number, "a"))
        by_status = found.groupby("status")["id"].agg(set).to_dict()
        assert sorted(found["id"]) == list(range(40))
        assert by_status["forgotten"] == split["forget"] <= half["retain"]
        assert by_status["retained"] == half["retain"] - split["forget"]
        assert by_status["unseen"] == set(range(40)) - half["retain"]
        assert found[[*CELL, "shadow"]].drop_duplicates().to_dict("records") == [
            {**CELL, "method": method, "shadow": number}
        ]
        assert found["score"].nunique() > 30, "logits, not correctness"


def test_scores_are_those_of_the_model(shadows, dataset):
    """The original's, computed another way from its weights."""
    from unlearn.models import checkpoint, images

    found = shadows("original", 1).sort_values("id")
    train = images.training_set(dataset)
    p = checkpoint.load(shadows.pretrained(1))(images.to_float(train.pixels)).double().softmax(1)
    p = p[range(40), train.labels].detach().numpy()
    np.testing.assert_allclose(found["score"], np.log(p / (1 - p)), rtol=1e-3, atol=1e-4)


def test_a_shadow_is_deterministic_and_unlike_others(shadows):
    first, again, other = (shadows("cf", number, name=name) for number, name in ((0, "a"), (0, "b"), (1, "c")))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first.sort_values("id")["score"], other.sort_values("id")["score"])


def test_pretraining_on_a_half_is_pretraining_without_the_other(shadows, shadow_splits, edited, tmp_path):
    from unlearn.models import checkpoint
    from unlearn.stages.pretrain import pretrain

    unseen = roles(shadow_splits(0, "a")[0])["unseen"]
    out = [str(tmp_path / "plain" / file) for file in ("model.safetensors", "history", "cost", "snapshots")]
    pretrain(
        Run("net", "none", "pretrain", "all", 2000),
        edited("smaller", "split", unseen, "test"),
        *out,
        shadows.recipe,
        0,
        "cpu",
    )
    plain, own = (checkpoint.load(path).state_dict() for path in (out[0], shadows.pretrained(0)))
    assert all((own[name] == plain[name]).all() for name in plain)


@pytest.mark.parametrize(("method", "blind"), [("retrain", True), ("original", False), ("cf", False)])
def test_only_exact_retraining_never_saw_what_it_forgets(shadows, shadow_splits, edited, method, blind):
    forgotten = roles(shadow_splits(0, "a")[1])["forget"]
    black = edited("black", "image", forgotten, bytes(64))
    before, after = shadows(method, 0), shadows(method, 0, black, "b")
    kept = ~before["id"].isin(forgotten)
    assert np.array_equal(before["score"][kept], after["score"][kept]) == blind


def test_a_shadow_takes_the_settings_that_tuning_chose(shadows, tmp_path):
    from unlearn.training.artifacts import TrainingSettings

    path, tried = tmp_path / "tuning.parquet", {"parameter": ["lr", "lr"], "value": [0.001, 0.5]}
    measured = {key: [0.5, 0.1] for key in ("ua", "ra", "ta", "mia_efficacy", "distance")}
    tables.write(TUNING, path, {**tried, **measured, "failure": [None, None], "chosen": [False, True]}, {},
        Run("net", "ten", "cf", "all", 1000),
    )  # fmt: skip
    values = {"epochs": 1, "batch_size": 8}
    tuned = shadows("cf", 0, settings=TrainingSettings(method=values, **EXECUTION), tuning=path)
    given = shadows("cf", 0, settings=TrainingSettings(method={**values, "lr": 0.5}, **EXECUTION), name="b")
    pd.testing.assert_frame_equal(tuned, given)


# --- the study ------------------------------------------------------------------------------------


@pytest.fixture
def on(config):
    """The default config with ``ulira`` on."""
    return {**config, "ulira": True}


def test_shadows_are_asked_for(config, on):
    assert list(Study(config).shadows) == []
    study = Study(on)
    assert list(study.shadows) == list(range(16))
    assert study.shadow_split_settings() == {"fraction": 0.5, "seed": 2000}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("shadows", 5, "settings.ulira.shadows: 5 must be 6 or greater"),
        ("fraction", 1.0, "settings.ulira.fraction: 1.0 must be less than 1"),
        ("seed", -1, "settings.ulira.seed: -1 must be 0 or greater"),
        ("count", 3, "settings.ulira.count: unknown key; known are shadows"),
        ("seed", 985, "settings.ulira.seed: shadows train with seeds 985 to 1000, but 1000 is one of"),
        ("seed", 0, "settings.ulira.seed: shadows train with seeds 0 to 15, but 0 is one of"),
    ],
)
def test_shadows_that_cannot_be_are_refused(on, key, value, message):
    on["settings"]["ulira"][key] = value
    with pytest.raises(ConfigError, match=message):
        Study(on)


def test_seeds_next_to_those_of_shadows_are_allowed(on):
    Study({**on, "seeds": [1999, 2016]})
    with pytest.raises(ConfigError, match="2015 is one of"):
        Study({**on, "seeds": [2015]})


def test_without_ulira_its_seeds_are_free(config):
    Study({**config, "seeds": [2000]})


def test_methods_for_classes_alone_are_refused(on):
    restricted = [
        name
        for name in plugins.names("methods")
        if "random" not in contracts.declaration("methods", name).constants.get("FORGET_KINDS", ("random",))
    ]
    assert "unsir" in restricted
    for name in restricted:
        on.update(methods=["cf", name], forgets=["class3"])
        with pytest.raises(ConfigError, match=f"^ulira: .*method '{name}' is not defined"):
            Study(on)
        Study({**on, "ulira": False})


def test_tuned_settings_come_from_one_forget_set_that_is_like_a_shadows(on):
    Study({**on, "tune": True})
    for forgets in (["class3"], ["random10", "class3"]):
        Study({**on, "forgets": forgets})
        with pytest.raises(ConfigError, match=r"^ulira: with tune"):
            Study({**on, "tune": True, "forgets": forgets})


@pytest.mark.slow
def test_the_workflow_plans_shadows_where_they_are_asked_for(tmp_path):
    from tiny import TINY, Copy

    study = Copy(tmp_path, TINY)
    assert not [message for message in study.planned("all") if "hadow" in message]
    (tmp_path / "tiny.yaml").write_text("ulira: true\n" + TINY)
    planned = [message for message in study.planned("all") if "hadow" in message or "U-LiRA" in message]
    kinds = Counter(re.match(r"[\w-]+", message)[0] for message in planned)
    assert kinds == {"Split": 16, "Pretrain": 16, "Shadow": 16 * 6, "U-LiRA": 6}
