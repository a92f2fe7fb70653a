"""The user's own models: weights in any usual form, code that timm does not have, and what is refused of both."""

import re
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSES, EXECUTION, NETS, NORMALIZE, SHAPE, spec_of
from safetensors.torch import save_file
from test_metrics import evidence, measured, rows

from unlearn.analysis.comparisons import compare
from unlearn.api.figures import ReportSettings
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.schema.cost import COST
from unlearn.io.schema.history import HISTORY
from unlearn.metrics.cost import UNKNOWN
from unlearn.models import checkpoint, images, scopes, weights
from unlearn.models.classifier import ModelError, Spec, create
from unlearn.models.normalization import normalization_layers
from unlearn.models.recognition import doubted
from unlearn.models.scopes import ScopeError
from unlearn.run import Run
from unlearn.stages.adopt import AdoptionSettings, adopt
from unlearn.stages.layers import LayersSettings, layers
from unlearn.stages.unlearn import unlearn
from unlearn.training.artifacts import TrainingSettings
from unlearn.training.context import MethodContext

NET = spec_of("batchnorm")
CODE = """
from torch import nn

def build(num_classes, in_chans, width=64):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * width, num_classes))

def number(num_classes, in_chans):
    return 3

def broken(num_classes, in_chans):
    return 1 / 0
"""


@pytest.fixture
def source(tmp_path):
    """The file of a model that timm does not have."""
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def linear(source, **more):
    return Spec(f"{source}:build", CLASSES, SHAPE, {"width": 64}, normalize=NORMALIZE, **more)


@pytest.fixture
def learned(source, dataset):
    """The state of a linear model that knows all 40 training images."""
    train = images.training_set(dataset)
    x = (images.to_float(train.pixels).flatten(1) - 0.5) / 0.5
    x = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    found = torch.linalg.lstsq(x, torch.eye(CLASSES)[train.labels].double(), driver="gelsd").solution.float()
    return {"1.weight": found[:-1].T.contiguous(), "1.bias": found[-1]}


# --- files of weights -------------------------------------------------------------------------------

FORMS = {
    "plain": lambda s: s,
    "of DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled, parallel": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "of Lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3},
    "with an optimizer": lambda s: {"model_state_dict": s, "optimizer": {"lr": 0.1}, "acc": 0.9},
    "within": lambda s: {"model": {"state_dict": {f"net.{k}": v for k, v in s.items()}}},
    "averaged": lambda s: {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in s.items()}},
    "of an average": lambda s: {"state_dict_ema": s, "epoch": 1},
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    "of an old torch": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("form", FORMS)
def test_usual_forms_are_understood(tmp_path, form):
    other, model = create(NET, 1), create(NET, 0)
    torch.save(FORMS[form](other.net.state_dict()), tmp_path / "a.pt")
    weights.fill(model, tmp_path / "a.pt")
    rounded = (lambda t: t.half().float()) if form == "half" else lambda t: t
    for name, tensor in other.net.state_dict().items():
        assert torch.equal(model.net.state_dict()[name], rounded(tensor) if tensor.is_floating_point() else tensor)


def test_safetensors_and_checkpoints_of_this_project(tmp_path):
    other, model = create(NET, 1), create(NET, 0)
    save_file({f"model.{k}": v for k, v in other.net.state_dict().items()}, tmp_path / "a.safetensors")
    checkpoint.save(other, tmp_path / "b.safetensors", {})
    for name in ("a", "b"):
        model = create(NET, 0)
        weights.fill(model, tmp_path / f"{name}.safetensors")
        assert torch.equal(model.net.fc.weight, other.net.fc.weight)


class Executed:
    def __reduce__(self):
        return print, ("code of the file ran",)


def without(state, *names):
    return {k: v for k, v in state.items() if k not in names}


REFUSED = {
    "missing": (lambda s: without(s, "fc.bias", "bn1.weight"), "2 missing (bn1.weight; fc.bias)"),
    "many missing": (lambda s: {"fc.bias": s["fc.bias"]}, "missing (conv1.weight; bn1.weight; bn1.bias; …)"),
    "unexpected": (lambda s: {**s, "layer9.weight": s["fc.bias"]}, "1 unexpected (layer9.weight)"),
    "other classes": (
        lambda s: {**s, "fc.weight": torch.zeros(7, 16)},
        "1 of another shape (fc.weight 7×16, must be 4×16)",
    ),
    "a whole model": (lambda s: torch.nn.Linear(1, 1), "holds more than tensors"),
    "code": (lambda s: {"state_dict": s, "x": Executed()}, "holds more than tensors"),
    "a list": (lambda s: [1, 2], "holds a list, must hold a state_dict"),
    "nothing": (lambda s: {}, "holds no state_dict but nothing"),
    "another entry": (lambda s: {"weights_of_mine": s}, "holds no state_dict but weights_of_mine"),
    "not a number": (lambda s: {**s, "fc.bias": s["fc.bias"] * torch.nan}, "1 tensors are not finite, first fc.bias"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_counted(tmp_path, case, capfd):
    change, words = REFUSED[case]
    torch.save(change(create(NET, 1).net.state_dict()), path := tmp_path / "a.pt")
    with pytest.raises(ModelError, match=re.escape(words)) as error:
        weights.fill(create(NET, 0), path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert "code of the file ran" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_files_of_anything_else_are_refused(tmp_path, name):
    for content in (b"", b"no weights", bytes(100)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}: "):
            weights.read(tmp_path / name)
    with pytest.raises(ModelError, match="no such file"):
        weights.read(tmp_path / f"b{name}")


def test_a_head_of_other_classes_starts_afresh(tmp_path):
    other, model = create(replace(NET, classes=7), 1), create(NET, 0)
    torch.save(other.net.state_dict(), tmp_path / "a.pt")
    own = model.net.fc.weight.clone()
    assert not weights.start(model, tmp_path / "a.pt")
    assert torch.equal(model.net.fc.weight, own)
    assert torch.equal(model.net.conv1.weight, other.net.conv1.weight)
    torch.save(without(other.net.state_dict(), "fc.weight", "fc.bias"), tmp_path / "a.pt")
    assert not weights.start(create(NET, 0), tmp_path / "a.pt")
    torch.save(without(other.net.state_dict(), "conv1.weight"), tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"1 missing \(conv1.weight\)"):
        weights.start(create(NET, 0), tmp_path / "a.pt")
    torch.save((same := create(NET, 2)).net.state_dict(), tmp_path / "a.pt")
    assert weights.start(model, tmp_path / "a.pt")
    assert torch.equal(model.net.fc.weight, same.net.fc.weight)


def test_training_starts_from_init_and_a_teacher_that_knows_nothing_does_not(tmp_path):
    other = create(NET, 1)
    torch.save(other.net.state_dict(), path := tmp_path / "a.pt")
    context = MethodContext(0, NET, {}, torch.device("cpu"), init=str(path))
    assert torch.equal(context.fresh_model("init").net.fc.weight, other.net.fc.weight)
    assert not torch.equal(context.fresh_model("incompetent teacher").net.fc.weight, other.net.fc.weight)


# --- adoption ---------------------------------------------------------------------------------------


def adopted(tmp_path, dataset, source, state, split=None, **settings):
    torch.save(state, path := tmp_path / "a.pt")
    model = {key: value for key, value in linear(source).to_json().items() if key not in ("classes", "shape", "digest")}
    given = AdoptionSettings(
        **{"model": model, "key": "settings.archs.net.weights", "trust": False, "seconds": None, **settings}
    )
    out = {key: str(tmp_path / f"{key}.parquet") for key in ("history", "cost")}
    out |= {key: str(tmp_path / f"{key}.safetensors") for key in ("model", "snapshots")}
    adopt(
        Run("net", "none", "pretrain", "all", 0), dataset, str(path), settings=given, device="cpu", split=split, **out
    )
    return out


def test_an_adopted_model_is_the_users(tmp_path, dataset, source, learned):
    out = adopted(tmp_path, dataset, source, learned)
    model = checkpoint.load(out["model"])
    assert torch.equal(model.net[1].weight, learned["1.weight"])
    assert checkpoint.metadata(out["model"])["accuracy"] == 1
    assert list(checkpoint.snapshots(out["snapshots"])) == []
    assert len(tables.read(HISTORY, out["history"])) == 0
    row = tables.read(COST, out["cost"]).to_pylist()[0]
    assert row["parameters"] == 65 * CLASSES
    assert row["device"] == "elsewhere"
    assert [row[key] for key in ("seconds", "cpu_seconds", "peak_memory", "trainable_parameters")] == [None] * 4
    assert (
        tables.read(COST, adopted(tmp_path, dataset, source, learned, seconds=412.0)["cost"])["seconds"][0].as_py()
        == 412
    )


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([1, 0, 2, 3], "most images of ant are called bee: the classes are in another order"),
        ([0, 2, 3, 1], "most images of bee are called dog: the classes are in another order"),
        ([0, 0, 0, 0], "check normalize"),
    ],
)
def test_another_models_weights_are_refused_unless_trusted(tmp_path, dataset, source, learned, order, words):
    state = {name: tensor[order] for name, tensor in learned.items()}
    with pytest.raises(ModelError, match=words) as error:
        adopted(tmp_path, dataset, source, state)
    assert str(error.value).startswith("settings.archs.net.weights: ")
    assert "trust: true" in str(error.value)
    assert not (tmp_path / "model.safetensors").exists()
    adopted(tmp_path, dataset, source, state, trust=True)


def test_retrained_models_are_judged_by_what_they_retain(tmp_path, dataset, split, source, learned):
    out = adopted(tmp_path, dataset, source, learned, split=split)
    assert checkpoint.metadata(out["model"])["accuracy"] == 1


def test_a_class_that_is_merely_not_learned_is_no_other_order():
    labels = np.repeat([0, 1, 2], 10)
    names = ["ant", "bee", "cat"]
    assert doubted(labels, np.where(labels == 1, 0, labels), names, 0.4) is None
    assert "near chance (up to 0.400)" in doubted(labels, np.zeros(30, int), names, 0.4)
    assert doubted(labels[:10], np.zeros(10, int), names, 1.0) is None, "one class is retained"
    assert "ant are called bee" in doubted(labels, (labels + 1) % 3, names, 0.4)


def test_what_retraining_starts_from_is_recorded(tmp_path, dataset, split, source, learned):
    """Its accuracy on the forgotten images, and the limit of chance."""
    model = {key: value for key, value in linear(source).to_json().items() if key not in ("classes", "shape", "digest")}
    torch.save(learned, path := tmp_path / "a.pt")
    recipe = {"epochs": 1, "lr": 0.0, "batch_size": 8}
    settings = TrainingSettings(method=recipe, model=model, init=str(path), **EXECUTION)
    out = {key: str(tmp_path / f"{key}.parquet") for key in ("history", "cost")}
    out["model"] = str(tmp_path / "model.safetensors")
    unlearn(Run("net", "ten", "retrain", "all", 0), dataset, split, settings=settings, device="cpu", **out)
    assert torch.equal(checkpoint.load(out["model"]).net[1].weight, learned["1.weight"]), "at rate 0 it stays"
    start = tables.metadata(out["cost"])["start"]
    assert start == {"accuracy": 1.0, "limit": pytest.approx(0.25 + 0.1 * 0.75), "n": 10}


def test_costs_that_are_not_known_are_null_and_not_compared():
    """A retrained model from elsewhere has no costs, and no run a cost relative to it."""
    run = measured(evidence())
    unknown = replace(run, cost=run.cost.assign(seconds=np.nan, cpu_seconds=np.nan, peak_memory=None, flops=None))
    retrained = measured(unknown)
    assert {row.reason for key, row in rows("cost", unknown).items() if key != ("trainable_parameters",)} == {UNKNOWN}
    relative = rows("cost", run, retrained)
    assert all(np.isnan(row.value) and UNKNOWN in row.reason for row in relative.values())
    keys = {"arch": "net", "forget": "ten", "scope": "all", "seed": 0}
    of_runs = (one.metrics.assign(method=m, **keys) for m, one in (("cf", run), ("retrain", retrained)))
    found = compare(pd.concat(of_runs, ignore_index=True), 0.95, 100, 0).set_index(["metric", "method"])
    assert np.isnan(found.loc[("peak_memory", "cf"), "gap"].item())


# --- models that timm does not have -----------------------------------------------------------------


def test_a_model_of_a_file(source, tmp_path):
    model = create(linear(source), 3)
    assert torch.equal(model.net[1].weight, create(linear(source), 3).net[1].weight)
    assert not torch.equal(model.net[1].weight, create(linear(source), 4).net[1].weight)
    checkpoint.save(model, tmp_path / "a.safetensors", {})
    assert len(checkpoint.load(tmp_path / "a.safetensors").spec.digest) == 64
    source.write_text(CODE + "\nX = 1\n")
    with pytest.raises(checkpoint.CheckpointError, match="changed since these weights were made"):
        checkpoint.load(tmp_path / "a.safetensors")
    assert create(linear(source), 3).spec.digest != model.spec.digest


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("number", "gives a int, must give a torch.nn.Module"),
        ("broken", "ZeroDivisionError"),
        ("absent", "AttributeError"),
    ],
)
def test_functions_that_give_no_model_are_refused(source, function, words):
    with pytest.raises(ModelError, match=words):
        create(Spec(f"{source}:{function}", CLASSES, SHAPE), 0)
    source.write_text("def build(:\n")
    with pytest.raises(ModelError, match="SyntaxError"):
        create(linear(source), 0)
    source.unlink()
    with pytest.raises(ModelError, match="No such file"):
        create(linear(source), 0)


RESNET_GROUPS = [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"], ["fc"]]


def test_groups_of_a_config_are_those_of_timm():
    """A stem's activation and pooling, which have no parameters, belong where timm's groups put them."""
    assert scopes.groups(create(replace(NET, groups=RESNET_GROUPS), 0)) == scopes.groups(create(NET, 0))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (RESNET_GROUPS[1:], "groups: .* parameters are in none, first conv1.weight"),
        ([*RESNET_GROUPS, ["layer"]], "groups.6: holds no parameter"),
    ],
)
def test_groups_must_hold_every_parameter(groups, words):
    with pytest.raises(ScopeError, match=words):
        scopes.groups(create(replace(NET, groups=groups), 0))


def test_a_model_without_groups_runs_as_a_whole(source, dataset, tmp_path):
    spec = {"model": f"{source}:build", "args": {}, "stem": "native", "normalize": NORMALIZE}
    out = str(tmp_path / "layers.parquet")
    layers(dataset, out, LayersSettings({"mine": spec}, ["all"], "digits", 0), "cpu")
    with pytest.raises(ScopeError, match="has no group_matcher"):
        layers(dataset, out, LayersSettings({"mine": spec}, ["last"], "digits", 0), "cpu")
    assert normalization_layers(create(linear(source), 0)) == {}


@pytest.mark.parametrize("key", ["weights", "retrained"])
def test_weights_that_do_not_fit_are_refused_before_anything_trains(dataset, tmp_path, key):
    torch.save(create(replace(NET, classes=7), 0).net.state_dict(), path := tmp_path / "a.pt")
    settings = LayersSettings({"net": NETS["batchnorm"]}, ["all"], "digits", 0)
    given = replace(settings, given=[("net", f"settings.archs.net.{key}", str(path), False)])
    with pytest.raises(ModelError, match=rf"^settings\.archs\.net\.{key}: .*a\.pt: does not fit"):
        layers(dataset, str(tmp_path / "out.parquet"), given, "cpu")
    layers(
        dataset,
        str(tmp_path / "out.parquet"),
        replace(settings, given=[("net", "settings.archs.net.init", str(path), False)]),
        "cpu",
    )


def test_an_original_of_other_classes_is_refused_before_anything_trains(dataset, tmp_path, source, learned):
    spec = {"model": f"{source}:build", "args": {}, "stem": "native", "normalize": NORMALIZE}
    torch.save({name: tensor[[1, 0, 2, 3]] for name, tensor in learned.items()}, path := tmp_path / "a.pt")
    for key, trust, refused in (("weights", False, True), ("weights", True, False), ("retrained", False, False)):
        given = [("mine", f"settings.archs.mine.{key}", str(path), trust)]
        settings = LayersSettings({"mine": spec}, ["all"], "digits", 0, given)
        with pytest.raises(ModelError, match="most images of ant are called bee") if refused else nullcontext():
            layers(dataset, str(tmp_path / "out.parquet"), settings, "cpu")


# --- the config -------------------------------------------------------------------------------------


@pytest.fixture
def own(config, tmp_path):
    """``own(**keys)``: the default config of one architecture with keys of it; ``external``: models made elsewhere."""
    for name in ("a.pt", "b.pt", "r-random10-0.pt", "r-random10-1.pt"):
        (tmp_path / name).write_bytes(b"")

    def make(external=None, top=(), **keys):
        config.update({"archs": ["resnet"], **dict(top)})
        config["settings"]["external"] = external or {}
        for key, value in keys.items():
            config["settings"]["archs"]["resnet"][key] = value
        return Study(config)

    make.path = lambda name: str(tmp_path / name)
    return make


def test_files_stand_in_for_jobs(own):
    study = own(
        weights=own.path("a.pt"),
        retrained=own.path("r-{forget}-{seed}.pt"),
        external={"ours": {"weights": {"resnet": own.path("r-{forget}-{seed}.pt")}, "seconds": 412}},
        top={"seeds": [0, 1]},
    )
    assert study.original("resnet", 1) == own.path("a.pt")
    assert study.original("resnet", 1000) is None, "tuning has its own"
    assert study.forgotten(Run("resnet", "random10", "retrain", "all", 1)) == own.path("r-random10-1.pt")
    assert [(r.method, r.scope, r.seed) for r in study.runs if r.method == "ours"] == [
        ("ours", "all", 0),
        ("ours", "all", 1),
    ]
    assert "ours" not in study.methods
    assert study.report_settings()["methods"][-1] == "ours"
    assert ReportSettings(**study.report_settings()).external == ["ours"]
    text = " ".join(study.notes)
    assert "one model for all seeds" in text
    assert "412 s, is as the config says" in text
    assert "exact retraining is" in text


REFUSED_KEYS = {
    "checkpoint_path": ({"args": {"checkpoint_path": "a.pt"}}, "resnet.args.checkpoint_path: weights are named by"),
    "pretrained": ({"args": {"pretrained": True}}, "settings.archs.resnet.args.pretrained: weights are named by"),
    "num_classes": ({"args": {"num_classes": 3}}, "args.num_classes: follows from the images"),
    "no file": ({"weights": "absent.pt"}, "settings.archs.resnet.weights: absent.pt: no such file"),
    "no init": ({"init": "absent.pt"}, "settings.archs.resnet.init: absent.pt: no such file"),
    "no code": ({"model": "absent.py:build"}, "settings.archs.resnet.model: absent.py: no such file"),
    "braces": ({"weights": "a-{forget}.pt"}, "settings.archs.resnet.weights: 'a-{forget}.pt' may hold {seed}"),
    "an open brace": ({"weights": "a-{.pt"}, "settings.archs.resnet.weights"),
    "retrained alone": ({"retrained": "b.pt"}, "settings.archs.resnet.retrained: needs settings.archs.resnet.weights"),
    "the original as retrained": (
        {"weights": "a.pt", "retrained": "a.pt"},
        "resnet.retrained: is the file of settings.archs.resnet.weights",
    ),
    "one retrained for two seeds": (
        {"weights": "a.pt", "retrained": "b.pt", "top": {"seeds": [0, 1]}},
        "resnet.retrained: must hold {seed}",
    ),
    "one for two forget sets": (
        {"weights": "a.pt", "retrained": "b.pt", "top": {"forgets": ["random10", "class3"]}},
        "resnet.retrained: must hold {forget}",
    ),
    "tuning without a recipe": (
        {"weights": "a.pt", "train": {"epochs": 0}, "top": {"tune": True}},
        "settings.archs.resnet.train.epochs: 0, but tune",
    ),
    "a method's name": (
        {"external": {"salun": {"weights": {"resnet": "a.pt"}}}},
        "external.salun: is the name",
    ),
    "a control's name": ({"external": {"retrain": {"weights": {"resnet": "a.pt"}}}}, "settings.external.retrain: is"),
    "no such arch": ({"external": {"x": {"weights": {"rezn": "a.pt"}}}}, "settings.external.x.weights.rezn: has no"),
    "no arch of the study": (
        {"external": {"x": {"weights": {"vit": "a.pt"}}}},
        "external.x.weights: has none",
    ),
    "no weights": ({"external": {"x": {"seconds": 3}}}, "settings.external.x.weights: missing"),
    "one external for two seeds": (
        {"external": {"x": {"weights": {"resnet": "a.pt"}}}, "top": {"seeds": [0, 1]}},
        "settings.external.x.weights.resnet: must hold {seed}",
    ),
    "groups": ({"groups": [["a"]]}, "settings.archs.resnet.groups"),
}


@pytest.mark.parametrize("case", REFUSED_KEYS)
def test_what_cannot_be_right_is_refused_at_once(own, case):
    keys, words = REFUSED_KEYS[case]
    with pytest.raises(ConfigError, match=re.escape(words)):
        own(**keys)
