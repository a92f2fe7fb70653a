"""What every unlearning method must keep to, from the day it is written: the tests loop over the registry."""

import copy
import gc
import weakref
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import EXECUTION, image_set, spec_of

from unlearn.config import contracts, plugins
from unlearn.config.settings import Training
from unlearn.io import tables
from unlearn.io.schema.cost import COST
from unlearn.io.schema.split import SPLIT
from unlearn.methods import cf
from unlearn.models import checkpoint, scopes
from unlearn.models.classifier import Classifier, create, head
from unlearn.run import CONTROLS, Run
from unlearn.stages import pretrain
from unlearn.stages import unlearn as unlearn_stage
from unlearn.stages.layers import held
from unlearn.training.artifacts import TrainingSettings
from unlearn.training.context import AccessError, MethodContext
from unlearn.training.loop import Diverged, fit, learning_rate

METHODS = plugins.names("methods")
TRAINED = [name for name in METHODS if issubclass(plugins.load("methods", name).Settings, Training)]
ONE_SHOT = [name for name in METHODS if name not in (*TRAINED, "original")]
# Settings under which a method changes a tiny network visibly.
FAST = {"epochs": 2, "batch_size": 20, "forget_batch_size": 20, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
OWN = {
    "influence": {"iterations": 3},
    "salun": {"density": 1.0},
    "ssd": {"alpha": 0.5},  # at the published one, nothing of an untrained model is selected
    "unsir": {"noise_images": 4, "noise_steps": 2, "noise_repeats": 2},
}
every_method = pytest.mark.parametrize("name", METHODS)
every_trained = pytest.mark.parametrize("name", TRAINED)
every_one_shot = pytest.mark.parametrize("name", ONE_SHOT)
every_net = pytest.mark.parametrize("net", ["batchnorm", "layernorm"])


class Spy(dict):
    """Data by role that notes which roles were asked for."""

    def __init__(self, data):
        super().__init__(data)
        self.seen = set()

    def __getitem__(self, role):
        self.seen.add(role)
        return super().__getitem__(role)


def context_of(name, net="layernorm", scope="all", seed=0, **more):
    """A context with the roles that the method declares, of data of a kind that it can forget."""
    method = plugins.load("methods", name)
    sets = {"retain": image_set(20, 1, 0), "forget": image_set(12, 2, 20)}
    if "random" not in getattr(method, "FORGET_KINDS", ("random",)):  # class 0 is forgotten
        sets = {role: images.select((images.labels == 0) == (role == "forget")) for role, images in sets.items()}
    data = Spy({role: sets[role] for role in method.DATA_ROLES})
    spec = spec_of(net)
    if net == "layernorm":
        spec = replace(spec, args={**spec.args, "proj_drop_rate": 0.3})
    augment = {"crop": 1, "flip": True}
    return MethodContext(seed, spec, data, torch.device("cpu"), scope, **{"augment": augment, **more})


def unlearn(name, context, model=None, **more):
    """The model that a method makes of ``model``, by default of a fresh one."""
    model = create(context.spec, seed=0) if model is None else model
    method = plugins.load("methods", name)
    known = method.Settings.model_fields
    given = {key: value for key, value in {**FAST, **OWN.get(name, {}), **more}.items() if key in known}
    method.unlearn(model, context, plugins.settings("methods", name, given))
    return model


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    one, other = (m if isinstance(m, dict) else m.state_dict() for m in (one, other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@dataclass(frozen=True)
class Trial:
    """One run of a method: the state ``before`` and ``after`` it, and what it did beside."""

    before: dict
    after: dict
    model: Classifier
    context: MethodContext
    phases: set
    streams_kept: bool
    data_kept: bool


@cache
def trial(name, net, scope="all", seed=0, noise=1) -> Trial:
    """``noise`` seeds the global random streams, which must not matter."""
    context, phases = context_of(name, net, scope, seed), set()
    context.meter = SimpleNamespace(step=lambda phase, _: phases.add(phase) or nullcontext(), state_dict=dict)
    given = [tensor for images in context.data.values() for tensor in vars(images).values()]
    copies = [tensor.clone() for tensor in given]
    model = create(context.spec, seed=0)
    before = state(model)
    torch.manual_seed(noise)
    np.random.seed(noise)
    streams = torch.get_rng_state(), np.random.get_state()[1].copy()
    unlearn(name, context, model)
    streams_kept = torch.equal(torch.get_rng_state(), streams[0]) and (np.random.get_state()[1] == streams[1]).all()
    data_kept = all(map(torch.equal, given, copies))
    return Trial(before, state(model), model, context, phases, bool(streams_kept), data_kept)


# --- conformance ----------------------------------------------------------------------------------


def test_controls_are_methods():
    assert set(CONTROLS) <= set(METHODS)


@every_method
def test_its_declaration_is_read_without_importing_it(name):
    declared, method = contracts.declaration("methods", name), plugins.load("methods", name)
    for constant in ("DATA_ROLES", "FORGET_KINDS", "TUNING_GRID"):
        assert declared.constants.get(constant) == getattr(method, constant, None)
    assert declared.doc
    assert vars(declared.settings()) == vars(method.Settings())


@every_net
@pytest.mark.parametrize("scope", ["all", "intermediate", "last"])
@every_method
def test_changes_its_scope_and_nothing_else(name, scope, net):
    """Bit for bit, buffers included; and leaves a sound model in evaluation mode."""
    found = trial(name, net, scope)
    assert found.before.keys() == found.after.keys()
    changed = {key for key in found.before if not torch.equal(found.before[key], found.after[key])}
    inside = scopes.members(found.model, scope) & found.before.keys()
    parameters = dict(found.model.named_parameters())
    if name in ONE_SHOT:
        assert changed
        assert changed <= parameters.keys() & inside
    else:
        assert changed == (set() if name == "original" else inside)
    assert all(value.isfinite().all() for value in found.after.values())
    if name != "original":
        assert {key for key, p in parameters.items() if p.requires_grad} == parameters.keys() & inside
        assert found.phases, "the meter sees its steps"
        assert not any(module.training for module in found.model.modules())
    epochs = [row["epoch"] for row in found.context.history]
    assert epochs == list(range(1, len(epochs) + 1))


@every_net
@every_method
def test_depends_on_its_seed_alone(name, net):
    """Not on what ran before, which leaves the global random streams anywhere."""
    assert same(trial(name, net).after, trial(name, net, noise=2).after)
    assert name in ("original", "ssd") or not same(trial(name, net).after, trial(name, net, seed=1).after)


@every_net
@every_method
def test_leaves_the_global_streams_and_the_data_alone(name, net):
    assert trial(name, net).streams_kept
    assert trial(name, net).data_kept


@every_method
def test_reads_what_it_declares_and_no_more(name):
    declared = plugins.load("methods", name).DATA_ROLES
    assert trial(name, "layernorm").context.data.seen == set(declared)
    for role in declared:
        context = context_of(name)
        del context.data[role]
        with pytest.raises(AccessError, match=role):
            unlearn(name, context)


@every_method
def test_leaves_no_model_to_the_cycle_collector(name):
    """Which frees memory at any time, also while the memory of another job is measured."""
    gc.disable()
    try:
        model = weakref.ref(unlearn(name, context_of(name)))
    finally:
        gc.enable()
    assert model() is None


@pytest.mark.parametrize("name", ["bs", "scrub"])
def test_its_teacher_stays_the_original(name, monkeypatch):
    teachers, real = [], copy.deepcopy

    def spy(thing, *memo):
        made = real(thing, *memo)
        teachers.extend([made] if isinstance(thing, Classifier) else [])
        return made

    context = context_of(name, "batchnorm")
    start = create(context.spec, seed=0)
    monkeypatch.setattr(plugins.load("methods", name).copy, "deepcopy", spy)
    found = unlearn(name, context, real(start))
    (teacher,) = teachers
    assert same(teacher, start)
    assert not same(found, start)
    assert not teacher.training
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())


@pytest.mark.parametrize("still", [{"epochs": 0}, {"lr": 0.0}], ids=["no epochs", "learning rate 0"])
@pytest.mark.parametrize("name", [name for name in TRAINED if name not in ("retrain", "unsir")])
def test_without_training_nothing_changes(name, still):
    context = context_of(name, "batchnorm")
    start = create(context.spec, seed=0)
    found = unlearn(name, context, copy.deepcopy(start), **still)
    assert all(map(torch.equal, found.parameters(), start.parameters()))
    assert "lr" in still or same(found, start)


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "unsir"])  # which has a repair phase too
def test_keeps_a_history(name):
    context = context_of(name)
    unlearn(name, context, epochs=3, schedule="cosine", warmup=1)
    assert [row["epoch"] for row in context.history] == [1, 2, 3]
    assert [row["lr"] for row in context.history] == pytest.approx([0.025, 0.05, 0.025])
    assert all(np.isfinite(row["loss"]) and row["seconds"] > 0 for row in context.history)


@every_trained
def test_divergence_is_an_error(name):
    with pytest.raises(Diverged, match=r"the loss is .* in epoch"):
        unlearn(name, context_of(name), epochs=20, lr=1e30)


@every_one_shot
def test_gradients_that_are_not_finite_are_an_error(name):
    context = context_of(name, "batchnorm")
    model = create(context.spec, seed=0)
    head(model).weight.data[0, 0] = torch.inf
    with pytest.raises(Diverged):
        unlearn(name, context, model)


@every_one_shot
def test_one_shot_methods_see_images_as_they_are(name):
    """Some public codes take their gradients on augmented images."""
    plain = context_of(name, augment={"crop": 0, "flip": False})
    assert same(unlearn(name, plain), trial(name, "layernorm").after)


@every_trained
def test_bfloat16_keeps_the_weights_in_float32(name):
    found = unlearn(name, context_of(name, precision="bfloat16"))
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    assert not same(found, trial(name, "layernorm").after)


def test_the_stage_gives_a_method_what_it_declares_and_no_more(dataset, split, tmp_path, monkeypatch):
    def greedy(model, context, settings):
        context.images("forget")

    method = SimpleNamespace(DATA_ROLES=("retain",), unlearn=greedy, Settings=Training)
    monkeypatch.setattr(plugins, "load", lambda kind, name: method)
    checkpoint.save(create(spec_of("batchnorm"), 0), tmp_path / "original", {})
    run, original = Run("net", "ten", "greedy", "all", 0), str(tmp_path / "original")
    settings = TrainingSettings(method={}, **EXECUTION)
    with pytest.raises(AccessError, match="'forget'"):
        unlearn_stage.unlearn(run, dataset, split, "", "", "", settings, "cpu", original)


# --- exact retraining -----------------------------------------------------------------------------


def test_retraining_without_anything_to_forget_is_pretraining(architecture, dataset, tmp_path):
    """Through both stages: the same initialisation, order and augmentation of the images."""
    split = str(tmp_path / "split.parquet")
    tables.write(SPLIT, split, {"id": range(56), "role": ["retain"] * 40 + ["test"] * 16}, {})
    method, augment = Training(epochs=2, batch_size=16).model_dump(), {"crop": 1, "flip": True}
    recipe = TrainingSettings(model=architecture, method=method, augment=augment, precision="float32")

    def out(name):
        return [str(tmp_path / name / file) for file in ("model.safetensors", "history.parquet", "cost.parquet")]

    run = Run("net", "nothing", "retrain", "all", 3)
    pretrain.pretrain(run, dataset, *out("pretrain"), str(tmp_path / "snapshots"), recipe, 0, "cpu")
    unlearn_stage.unlearn(run, dataset, split, *out("retrain"), recipe, "cpu")
    assert same(*(checkpoint.load(out(name)[0]) for name in ("pretrain", "retrain")))


@pytest.mark.parametrize("method", ["cf", "original"])
def test_the_cost_holds_the_share_of_the_scope(architecture, dataset, split, method, tmp_path):
    """The parameters and layers that the table of layers has for the scope; nothing of the original is trained."""
    start = [str(tmp_path / file) for file in ("start.safetensors", "start-history.parquet", "start-cost.parquet")]
    out = [str(tmp_path / file) for file in ("model.safetensors", "history.parquet", "cost.parquet")]
    given = {"epochs": 1, "batch_size": 16}
    recipe = TrainingSettings(
        model=architecture, method=Training(**given).model_dump(), augment=EXECUTION["augment"], precision="float32"
    )
    pretrain.pretrain(Run("net", "none", "pretrain", "all", 0), dataset, *start, str(tmp_path / "s"), recipe, 0, "cpu")
    scope = "last" if method == "cf" else "all"
    own = replace(recipe, method=given if method == "cf" else {})
    run = Run("net", "ten", method, scope, 0)
    unlearn_stage.unlearn(run, dataset, split, *out, own, "cpu", original=start[0])
    (row,) = tables.read(COST, out[2]).to_pylist()
    expected = {each["scope"]: each for each in held(checkpoint.load(out[0]), "net", ["last"])}
    inside = expected["last"] if method == "cf" else {"parameters": 0, "layers": 0}
    assert (row["trainable_parameters"], row["trainable_layers"]) == (inside["parameters"], inside["layers"])
    assert (row["parameters"], row["layers"]) == (expected["all"]["parameters"], expected["all"]["layers"])


def test_retraining_discards_what_was_learned():
    context = context_of("retrain", "batchnorm")
    learned = create(context.spec, seed=5)
    assert same(unlearn("retrain", context, learned), trial("retrain", "batchnorm").after)


@every_net
def test_retraining_a_scope_starts_it_afresh(net):
    """EU-k before its first epoch: the scope is that of a new model, the rest is the old one."""
    context = context_of("retrain", net, "last")
    start = create(context.spec, seed=5)
    fresh, before = state(context.fresh_model("init")), state(start)
    inside = scopes.members(start, "last")
    found = unlearn("retrain", context, start, epochs=0).state_dict()
    assert all(torch.equal(found[key], (fresh if key in inside else before)[key]) for key in found)


@every_net
def test_retraining_a_scope_starts_it_afresh_once(net):
    """From there EU-k is CF-k; a public code starts afresh in every epoch, which leaves one epoch."""
    context = context_of("retrain", net, "last")
    start = create(context.spec, seed=5)
    afresh = copy.deepcopy(start)
    scopes.reinitialise(afresh, context.fresh_model("init"), "last")
    assert same(unlearn("retrain", context, start), unlearn("cf", context_of("cf", net, "last"), afresh))


# --- the loop -------------------------------------------------------------------------------------


def passes(name, **more):
    """(epoch, role) of every pass over the data that a method makes."""
    context, found = context_of(name), []
    real = context.batches

    def spy(role, epoch, size):
        found.append((epoch, role))
        return real(role, epoch, size)

    context.batches = spy
    unlearn(name, context, **more)
    return found


def test_order_of_passes():
    f, r = "forget", "retain"
    assert passes("rl") == [(1, f), (1, r), (2, f), (2, r)]
    assert passes("salun") == [(1, f), (1, r), (2, f), (2, r)]
    assert passes("scrub", epochs=4, msteps=2) == [(1, f), (1, r), (2, f), (2, r), (3, r), (4, r)]
    assert passes("bs") == [(1, f), (2, f)]
    assert passes("cf") == [(1, r), (2, r)]


def test_learning_rates():
    def rates(**more):
        own = Training(lr=1.0, epochs=6, **more)
        return [learning_rate(own, epoch) for epoch in range(1, 7)]

    assert rates() == [1.0] * 6
    assert rates(warmup=3) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    cosine = rates(warmup=2, schedule="cosine")
    assert cosine == pytest.approx([1 / 3, 2 / 3, *(0.5 * (1 + np.cos(np.pi * k / 4)) for k in range(4))])
    assert rates(warmup=9, schedule="cosine")[-1] == pytest.approx(0.6)


def test_an_epoch_sees_every_image_once():
    context = context_of("cf", augment={"crop": 0, "flip": False})
    images = context.images("retain")
    for epoch in (1, 2):
        batches = list(context.batches("retain", epoch, 8))
        sizes = [len(batch.y) for batch in batches]
        assert max(sizes) <= 8
        assert max(sizes) - min(sizes) <= 1, "a ragged last batch would count as much as a full one"
        seen = torch.cat([batch.x for batch in batches])
        key = sorted(map(tuple, (seen * 255).round().long().flatten(1).tolist()))
        assert key == sorted(map(tuple, images.pixels.long().flatten(1).tolist()))
    first, second = (torch.cat([b.y for b in context.batches("retain", epoch, 8)]) for epoch in (1, 2))
    assert not torch.equal(first, second)


def test_streams_are_separate():
    context, other = context_of("cf"), context_of("cf", seed=1)
    purposes = [("init", 0), ("order retain", 1), ("order retain", 2), ("augment retain", 1)]
    assert len({j.stream(*purpose) for j in (context, other) for purpose in purposes}) == 8
    assert context.stream("init") == context_of("bs", scope="last").stream("init")


def test_cf_learns():
    context = context_of("cf", "batchnorm", augment={"crop": 0, "flip": False})
    unlearn("cf", context, epochs=20, optimizer="adam", lr=0.01, weight_decay=0.0)
    assert context.history[-1]["loss"] < 0.85 * context.history[0]["loss"]


def test_after_step_has_the_last_word():
    context = context_of("cf")
    model = create(context.spec, 0)
    start = state(model)

    def undo(found):
        with torch.no_grad():
            for name, p in found.named_parameters():
                p.copy_(start[name])

    fit(model, cf.Settings(epochs=1), context, lambda epoch: context.batches("retain", epoch, 8), after_step=undo)
    assert all(torch.equal(p, start[name]) for name, p in model.named_parameters())
