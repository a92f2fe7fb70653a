"""From a model to its robustness tables: radii, attacked images, margins; and the gap along pretraining."""

import math

import numpy as np
import pytest
import torch
from conftest import EXECUTION, spec_of
from torch import nn

from unlearn.analysis import radii
from unlearn.evaluation.activations import ProbeSettings, spreads
from unlearn.io import tables
from unlearn.io.failures import RunFailed
from unlearn.io.schema.adversarial import ADVERSARIAL
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.io.schema.radii import RADII
from unlearn.io.schema.split import SPLIT
from unlearn.io.schema.trajectory import TRAJECTORY
from unlearn.models import checkpoint, images
from unlearn.models.classifier import create
from unlearn.models.images import ImageSet, to_float
from unlearn.run import Run
from unlearn.stages import attack, follow, predict, pretrain, probe
from unlearn.stages import radii as calibrate
from unlearn.training.artifacts import TrainingSettings
from unlearn.training.context import MethodContext

RUN = Run("net", "ten", "cf", "all", 0)
PRETRAINING = Run("net", "none", "pretrain", "all", 0)
EPS = [0.05, 0.2, 0.6]
SAMPLES = {"test": 12, "retain": 8, "forget": None}


@pytest.fixture
def weights(net, dataset, tmp_path):
    """A classifier on disk, with running statistics of real images."""
    for _ in range(5):
        net.train()(to_float(images.training_set(dataset).pixels))
    path = tmp_path / "model.safetensors"
    checkpoint.save(net.eval(), path, {"settings": {"method": {"epochs": 5}}})
    return str(path)


@pytest.fixture
def given(tmp_path):
    path = str(tmp_path / "radii.parquet")
    calibrate.radii(path, {"linf": {"eps": EPS, "headline": 0.2}, "l2": {"eps": [1.0], "headline": 1.0}})
    return path


def attacked(weights, dataset, split, given, tmp_path, name, **own):
    out = str(tmp_path / f"{name}.parquet")
    settings = attack.AttackSettings(own, SAMPLES)
    attack.attack(RUN, name, weights, dataset, split, given, out, settings, "cpu")
    return tables.read(ADVERSARIAL, out).to_pandas(), tables.metadata(out)


def test_every_role_is_attacked(weights, dataset, split, given, tmp_path):
    found, described = attacked(weights, dataset, split, given, tmp_path, "fgsm")
    assert found.groupby("role").size().to_dict() == {"test": 12, "retain": 8, "forget": 10}
    assert described["radii"] == EPS
    assert described["checks"]["finite"] is True
    assert set(found["threat_norm"]) == {"linf"}
    assert set(found["eps"].dropna()) <= {0.0, *EPS}
    roles = tables.read(SPLIT, split).to_pandas().set_index("id")["role"]
    assert (found["role"] == found["id"].map(roles)).all()


def test_clean_mistakes_are_those_of_predict(weights, dataset, split, given, tmp_path):
    found, _ = attacked(weights, dataset, split, given, tmp_path, "fgsm")
    out = str(tmp_path / "predictions.parquet")
    predict.predict(RUN, weights, dataset, split, out, "cpu")
    table = tables.read(PREDICTIONS, out)
    wrong = dict(zip(table["id"].to_pylist(), tables.matrix(table["logits"]).argmax(1) != table["label"], strict=True))
    assert [bool(wrong[i]) for i in found["id"]] == (found["eps"] == 0).tolist()
    assert 0 < sum(found["eps"] == 0) < len(found)


def test_a_role_is_attacked_alike_alone_and_beside_others(weights, dataset, split, given, tmp_path):
    both, _ = attacked(weights, dataset, split, given, tmp_path, "pgd", steps=3)
    test = images.stratified(images.by_role(dataset, split, ("test",))["test"], 12, attack.SEED)
    from unlearn.config import plugins
    from unlearn.evaluation.attack_search import search

    plugin, own = plugins.load("attacks", "pgd"), plugins.settings("attacks", "pgd", {"steps": 3})
    alone = search(checkpoint.load(weights), test, EPS, lambda m, e: plugin.build(m, e, own), attack.SEED)
    np.testing.assert_array_equal(both.loc[both["role"] == "test", "eps"], alone.eps)


def test_recovery_is_of_forgotten_images(weights, dataset, split, given, tmp_path):
    found, _ = attacked(weights, dataset, split, given, tmp_path, "recover", steps=3)
    assert set(found["role"]) == {"forget"}
    assert set(found["aim"]) == {"recover"}
    assert len(found) == 10


def test_radii_are_of_the_norm(given, tmp_path):
    assert radii.ascending(given, "linf") == EPS
    assert radii.headlines(given, {"pgd": "linf", "pgd_l2": "l2"}) == {"pgd": 0.2, "pgd_l2": 1.0}
    only = str(tmp_path / "only.parquet")
    calibrate.radii(only, {"linf": {"eps": EPS, "headline": 0.2}})
    with pytest.raises(tables.TableError, match=r"only\.parquet: no radii for threat norm 'l2'"):
        radii.ascending(only, "l2")


# --- calibration ----------------------------------------------------------------------------------


def test_levels_of_a_known_curve():
    found = calibrate.levels(lambda e: 0.8 * math.exp(-e), (1e-4, 100.0), "model")
    for level, eps in zip(calibrate.LEVELS, found, strict=True):
        assert eps == pytest.approx(-math.log(level), rel=0.01)


@pytest.mark.parametrize("curve", [lambda e: 0.8, lambda e: 0.8 * (e == 0), lambda e: 0.0])
def test_a_curve_that_gives_no_grid_is_an_error(curve):
    with pytest.raises(calibrate.CalibrationError, match="model: robust accuracy does not cross 75%"):
        calibrate.levels(curve, (1e-4, 1.0), "model")


@pytest.mark.slow
def test_calibrated_radii_are_where_robustness_falls(dataset, spec, tmp_path, monkeypatch):
    """On models with few test images the curve is a staircase: within one image of the level."""
    monkeypatch.setattr(calibrate, "HALVINGS", 8)
    paths = []
    test = images.test_set(dataset)
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = MethodContext(seed, spec, {}, torch.device("cpu")).fresh_model()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
        for _ in range(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net.train()(to_float(test.pixels)), test.labels).backward()
            optimizer.step()
        paths.append(str(tmp_path / f"model{seed}.safetensors"))
        checkpoint.save(net, paths[-1], {})
    out = str(tmp_path / "radii.parquet")
    calibrate.radii(out, {"linf": None}, paths, dataset, "cpu")
    table = tables.read(RADII, out).to_pandas()
    assert table["headline"].sum() == 1
    eps = radii.ascending(out, "linf")
    assert eps[-1] == pytest.approx(2 * eps[-2], rel=0.1)
    assert 5 <= len(eps) <= 2 * len(calibrate.LEVELS) + 1


# --- margins --------------------------------------------------------------------------------------


class Linear(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.w = nn.Parameter(weight)

    def forward(self, x):
        return x.flatten(1) @ self.w


def test_margin_of_a_linear_model_is_the_exact_radius():
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 2, generator=draw)
    pixels = torch.randint(256, (300, 1, 8, 8), generator=draw, dtype=torch.uint8)
    found = ImageSet(torch.arange(300), pixels, torch.arange(300) % 2)
    logits, margins = predict.examine(Linear(weight), found, "cpu")
    score = (logits[:, 1] - logits[:, 0]) * np.where(found.labels == 1, 1, -1)
    np.testing.assert_allclose(margins, score / (weight[:, 1] - weight[:, 0]).abs().sum().item(), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(logits, predict.logits(Linear(weight), found, "cpu"), rtol=1e-5, atol=1e-5)


def test_margin_does_not_change_with_the_scale_of_logits(net, make_images):
    class Scaled(nn.Module):
        def forward(self, x):
            return 50 * net(x)

    plain, scaled = (predict.examine(model, make_images(), "cpu")[1] for model in (net.eval(), Scaled()))
    np.testing.assert_allclose(plain, scaled, rtol=1e-3)


def test_no_gradient_is_no_margin(make_images):
    _, margins = predict.examine(Linear(torch.zeros(64, 4)), make_images(), "cpu")
    assert np.isnan(margins).all()


def test_margins_that_are_not_finite_are_none(make_images):
    """Of finite logits, whose gradient or difference overflows."""
    weight = torch.zeros(64, 2)
    weight[0] = torch.tensor([3e38, -3e38])
    dark = ImageSet(torch.arange(2), torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.arange(2))
    logits, margins = predict.examine(Linear(weight), dark, "cpu")
    assert np.isfinite(logits).all()
    assert np.isnan(margins).all()


def test_logits_that_are_not_finite_are_the_failure_of_the_run(make_images):
    broken = Linear(torch.full((64, 4), 1e38))
    for function in (predict.examine, predict.logits):
        with pytest.raises(RunFailed, match=r"the logits of 24 of 24 images are not finite"):
            function(broken, make_images(), "cpu")


def test_activations_that_are_not_finite_are_the_failure_of_the_run(dataset, split, tmp_path):
    net = create(spec_of("batchnorm"), 0)
    with torch.no_grad():
        net.net.bn1.weight.fill_(3e38)
    checkpoint.save(net, tmp_path / "model.safetensors", {})
    settings = ProbeSettings("output", "channel", False, ("test",))
    with pytest.raises(RunFailed, match=r"the activations of layer 'layer1.0.bn1' are not finite"):
        probe.probe(RUN, tmp_path / "model.safetensors", dataset, split, tmp_path / "out", settings, "cpu")
    assert not (tmp_path / "out").exists()


# --- the gap along pretraining --------------------------------------------------------------------


@pytest.fixture
def pretrained(architecture, dataset, tmp_path):
    """``pretrained(follow)``: (weights, snapshots) after six epochs."""
    recipe = {"epochs": 6, "batch_size": 16, "lr": 0.05}
    settings = TrainingSettings(model=architecture, method=recipe, **EXECUTION)

    def run(every):
        paths = [str(tmp_path / f"{every}-{kind}") for kind in ("weights", "history", "cost", "snapshots")]
        pretrain.pretrain(PRETRAINING, dataset, *paths, settings, every, "cpu")
        return paths[0], paths[3]

    return run


@pytest.mark.slow
def test_following_changes_nothing(pretrained):
    (one, _), (other, _) = pretrained(0), pretrained(2)
    states = [checkpoint.load(path).state_dict() for path in (one, other)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize(("every", "epochs"), [(0, []), (2, [2, 4]), (4, [4]), (6, []), (7, [])])
def test_snapshots_are_of_these_epochs(pretrained, every, epochs):
    weights, snapshots = pretrained(every)
    kept = dict(checkpoint.snapshots(snapshots))
    assert list(kept) == epochs
    final = checkpoint.load(weights).state_dict()
    for state in kept.values():
        assert state.keys() == final.keys()
        assert any(not torch.equal(state[name], final[name]) for name in final)


def test_trajectory_holds_what_each_snapshot_shows(pretrained, dataset, tmp_path):
    weights, snapshots = pretrained(2)
    out = str(tmp_path / "trajectory.parquet")
    settings = ProbeSettings("output", "channel", False, ["test"])
    follow.follow(PRETRAINING, weights, snapshots, dataset, out, settings, "cpu")
    table = tables.read(TRAJECTORY, out).to_pandas()
    assert table["epoch"].drop_duplicates().tolist() == [2, 4, 6]
    test, net = images.test_set(dataset), checkpoint.load(weights)
    for epoch, state in [*checkpoint.snapshots(snapshots), (6, net.state_dict())]:
        net = checkpoint.load(weights)
        net.load_state_dict(state)
        rows = table[table["epoch"] == epoch]
        assert rows["sigma"].tolist() == [row.sigma for row in spreads(net, test, "output", "channel")]
        right = (net(to_float(test.pixels)).argmax(1) == test.labels).double().mean()
        np.testing.assert_allclose(rows["accuracy"], right)


def test_a_file_of_weights_is_no_file_of_snapshots(pretrained):
    weights, snapshots = pretrained(0)
    with pytest.raises(checkpoint.CheckpointError, match="not a weights file"):
        list(checkpoint.snapshots(weights))
    with pytest.raises(checkpoint.CheckpointError, match="not a weights file"):
        checkpoint.load(snapshots)
