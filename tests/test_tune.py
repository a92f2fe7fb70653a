"""Tuning: the same number of tries for every method, judged by distance to exact retraining."""

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import EXECUTION
from test_progress import Stopped

from unlearn.config import plugins
from unlearn.config.settings import ConfigError, Training
from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.io.schema.tuning import TUNING
from unlearn.run import CONTROLS, Run

METHODS = [name for name in plugins.names("methods") if name not in CONTROLS]
RUN = Run("net", "ten", "cf", "all", 1000)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_declares_seven_tries_that_its_settings_allow(name):
    declared = plugins.declaration("methods", name)
    grid = declared.constants["TUNING_GRID"]
    families = [grid["sgd"], grid["adaptive"]] if issubclass(declared.settings, Training) else [grid]
    for family in families:
        ((parameter, values),) = family.items()
        assert len(values) == 7
        assert list(values) == sorted(set(values))
        for value in values:
            plugins.settings("methods", name, {parameter: value})


@pytest.fixture
def tuned(architecture, dataset, split, tmp_path):
    """``tuned(values)``: the path of the tuning table of CF's learning rate on a tiny model."""
    from unlearn.io.progress import NOTHING
    from unlearn.stages import predict, pretrain, tune, unlearn

    recipe = {"model": architecture, "method": {"epochs": 2, "batch_size": 16, "lr": 0.05}, **EXECUTION}

    def out(name):
        return [str(tmp_path / name / file) for file in ("model.safetensors", "history.parquet", "cost.parquet")]

    original, retrained = out("original")[0], out("retrain")[0]
    pretrain.pretrain(RUN, dataset, *out("original"), str(tmp_path / "snapshots"), recipe, 0, "cpu")
    reference_run = replace(RUN, method="retrain")
    unlearn.unlearn(reference_run, dataset, split, *out("retrain"), recipe, "cpu")
    reference = str(tmp_path / "predictions.parquet")
    predict.predict(reference_run, retrained, dataset, split, reference, "cpu")

    def run(values, progress=NOTHING):
        path = str(tmp_path / "tuning.parquet")
        settings = {"method": {"epochs": 1, "batch_size": 16}, "tuning_grid": {"lr": values}, **EXECUTION}
        tune.tune(RUN, dataset, split, original, reference, path, settings, "cpu", progress)
        return path

    return run


def test_the_nearest_to_retraining_is_chosen(tuned):
    from unlearn.stages.unlearn import chosen

    path = tuned([0.0, 0.01, 0.1])
    found = tables.read(TUNING, path).to_pandas()
    assert found["value"].tolist() == [0.0, 0.01, 0.1]
    assert found["chosen"].tolist() == [i == found["distance"].argmin() for i in range(3)]
    assert chosen(path) == {"lr": found.loc[found["distance"].idxmin(), "value"]}
    assert set(found["seed"]) == {1000}


@pytest.mark.parametrize("after", [2, 5])
def test_goes_on_where_it_was_killed(tuned, tmp_path, after):
    """In the second step of the first try, or in the first of the third: a try takes two steps."""
    values, whole, rest = [0.0, 0.01, 0.1], Stopped(None), Stopped(tmp_path / "progress")
    straight = tables.read(TUNING, tuned(values, whole))
    with pytest.raises(SystemExit):
        tuned(values, Stopped(tmp_path / "progress", after))
    assert tables.read(TUNING, tuned(values, rest)).equals(straight)
    assert (whole.steps, rest.steps) == (6, 6 - after)


def test_distances_are_mean_gaps_of_four_metrics(tuned, dataset, split, tmp_path):
    """With a learning rate of 0, and no batch statistics to move, the tried model is the original."""
    from unlearn.metrics.accuracy import accuracy
    from unlearn.metrics.mia_efficacy import confidence, efficacy
    from unlearn.stages import predict

    found = tables.read(TUNING, tuned([0.0, 0.01])).to_pandas().iloc[0]
    weights = str(tmp_path / "original/model.safetensors")
    predict.predict(RUN, weights, dataset, split, str(tmp_path / "untouched.parquet"), "cpu")

    def four(name):
        stored = tables.read(PREDICTIONS, tmp_path / f"{name}.parquet")
        role, label = stored["role"].to_numpy(zero_copy_only=False), stored["label"].to_numpy()
        of = {r: (label[role == r], tables.matrix(stored["logits"])[role == r]) for r in ("retain", "forget", "test")}
        mia = efficacy(**{r: confidence(*part) for r, part in of.items()})
        return np.array([1 - accuracy(*of["forget"]), accuracy(*of["retain"]), accuracy(*of["test"]), mia])

    tried = found[["ua", "ra", "ta", "mia_efficacy"]].to_numpy(float)
    assert found["distance"] == pytest.approx(np.abs(tried - four("predictions")).mean())
    if not has_buffers(weights):
        assert tried == pytest.approx(four("untouched"))


def has_buffers(weights):
    from unlearn.models import checkpoint

    return any(True for _ in checkpoint.load(weights).net.buffers())


def test_divergence_is_a_row_and_not_the_end(tuned):
    found = tables.read(TUNING, tuned([0.01, 1e30])).to_pandas()
    assert found["chosen"].tolist() == [True, False]
    assert np.isnan(found.loc[1, "distance"])
    assert "the loss is" in found.loc[1, "failure"]


def test_nothing_to_choose_from_stops_the_run(tuned):
    from unlearn.stages.tune import TuningError

    with pytest.raises(TuningError, match="cf on net: every setting of the grid diverged"):
        tuned([1e30])


def test_a_tuning_seed_that_is_reported_is_refused(config, schema):
    config["settings"]["tuning"]["seed"] = config["seeds"][0]
    with pytest.raises(ConfigError, match=r"settings\.tuning\.seed"):
        Study(config, schema)


def test_tuned_methods_and_their_grids(config, schema):
    assert Study(config, schema).tunings == []
    config.update(tune=True, methods=["cf", "bs"])
    study = Study(config, schema)
    assert {(run.arch, run.method) for run in study.tunings} == {(a, m) for a in config["archs"] for m in ("cf", "bs")}
    assert {run.seed for run in study.tunings} == {1000}
    sgd, adaptive = (study.tuning_settings(arch, "cf")["tuning_grid"]["lr"] for arch in ("resnet", "vit"))
    assert math.isclose(max(sgd) / max(adaptive), 10)
