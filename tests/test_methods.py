"""What every unlearning method must keep to, what they have in common, and each one's formula again.

The first part loops over the registry, so that a new method is tested on the day it is written.
"""

import copy
from dataclasses import asdict, fields, replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import EXECUTION
from scipy.stats import chisquare

from unlearn.config import plugins
from unlearn.config.settings import Training
from unlearn.io import tables
from unlearn.io.schema.split import SPLIT
from unlearn.methods import bs, cf, rl, salun, scrub
from unlearn.models import checkpoint, scopes
from unlearn.models.classifier import Classifier, create
from unlearn.models.images import to_float
from unlearn.run import CONTROLS, Run
from unlearn.stages import pretrain
from unlearn.stages import unlearn as unlearn_stage
from unlearn.training.context import AccessError
from unlearn.training.loop import Diverged, fit, learning_rate

METHODS = plugins.names("methods")
TRAINED = [name for name in METHODS if issubclass(plugins.load("methods", name).Settings, Training)]
ONE_SHOT = [name for name in METHODS if name not in (*TRAINED, "original")]
QUICK = {
    "ssd": {"alpha": 0.5},  # at the published one, nothing of an untrained model is selected
    "unsir": {"noise_images": 4, "noise_steps": 2, "noise_repeats": 2},
}
FAST = {"epochs": 2, "batch_size": 12, "forget_batch_size": 12, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
every_method = pytest.mark.parametrize("name", METHODS)
every_trained = pytest.mark.parametrize("name", TRAINED)
both_scopes = pytest.mark.parametrize("scope", ["all", "last"])


def settings(name, **more):
    """Settings of a method that move a model visibly in two epochs."""
    known = {field.name for field in fields(plugins.load("methods", name).Settings)}
    given = {**FAST, **QUICK.get(name, {}), **more}
    return plugins.settings("methods", name, {k: v for k, v in given.items() if k in known})


def unlearn(name, context, model=None, **more):
    """The model that a method makes of ``model`` (by default a fresh one)."""
    model = create(context.spec, seed=0) if model is None else model
    if "random" not in getattr(plugins.load("methods", name), "FORGET_KINDS", ("random",)):
        for role, images in dict(context.data).items():  # forget all of class 0
            dict.__setitem__(context.data, role, images.select((images.labels == 0) == (role == "forget")))
    plugins.load("methods", name).unlearn(model, context, settings(name, **more))
    return model


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    one, other = (m if isinstance(m, dict) else m.state_dict() for m in (one, other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- conformance ----------------------------------------------------------------------------------


def test_controls_are_methods():
    assert set(CONTROLS) <= set(METHODS)


@both_scopes
@pytest.mark.parametrize("name", [name for name in (*TRAINED, "original") if name not in ("retrain", "unsir")])
def test_no_epochs_no_change(name, spec, make_context, scope):
    start = create(spec, seed=0)
    assert same(unlearn(name, make_context(spec, scope), copy.deepcopy(start), epochs=0), start)


@both_scopes
@every_method
def test_moves_its_scope_and_nothing_else(name, spec, make_context, scope):
    start = create(spec, seed=0).state_dict()
    found = unlearn(name, make_context(spec, scope), density=1.0).state_dict()
    moved = {key for key in start if not torch.equal(start[key], found[key])}
    inside = scopes.members(create(spec, 0), scope) & start.keys()
    if name in ONE_SHOT:
        assert moved
        assert moved <= {key for key, _ in create(spec, 0).named_parameters()} & inside
    else:
        assert moved == (set() if name == "original" else inside)


@both_scopes
@every_method
def test_deterministic(name, spec, make_context, scope):
    augment = {"crop": 1, "flip": True}
    one, other = (unlearn(name, make_context(spec, scope, augment=augment)) for _ in range(2))
    assert same(one, other)
    assert name in ("original", "ssd") or not same(
        one, unlearn(name, make_context(spec, scope, augment=augment, seed=1))
    )


@every_method
def test_does_not_depend_on_what_ran_before(name, spec, make_context):
    """Dropout included, which draws from torch's global stream."""
    if spec.stem == "native":
        spec = replace(spec, args={**spec.args, "proj_drop_rate": 0.3})
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        found.append(unlearn(name, make_context(spec)))
    assert same(*found)


@every_method
def test_leaves_the_global_streams_alone(name, spec, make_context):
    torch.manual_seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    unlearn(name, make_context(spec))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


class Spy(dict):
    """Data by role that notes who asked for which."""

    def __init__(self, data):
        super().__init__(data)
        self.seen = set()

    def __getitem__(self, role):
        self.seen.add(role)
        return super().__getitem__(role)


@every_method
def test_reads_what_it_declares(name, spec, make_context):
    sees = plugins.load("methods", name).DATA_ROLES
    context = make_context(spec)
    context.data = Spy(context.data)
    unlearn(name, context)
    assert context.data.seen == set(sees)
    unlearn(name, make_context(spec, roles=sees))  # and works without the rest


@every_trained
def test_cannot_read_more(name, spec, make_context):
    for role in plugins.load("methods", name).DATA_ROLES:
        context = make_context(spec)
        del context.data[role]
        with pytest.raises(AccessError, match=role):
            unlearn(name, context)


@every_method
def test_leaves_the_data_alone(name, spec, make_context):
    context = make_context(spec, augment={"crop": 1, "flip": True})
    given = [tensor for images in context.data.values() for tensor in vars(images).values()]
    before = [tensor.clone() for tensor in given]
    unlearn(name, context)
    assert all(map(torch.equal, before, given))


@pytest.mark.parametrize("name", ["bs", "scrub"])
def test_its_teacher_stays_the_original(name, spec, make_context, monkeypatch):
    teachers, real = [], copy.deepcopy

    def spy(thing, *memo):
        made = real(thing, *memo)
        teachers.extend([made] if isinstance(thing, Classifier) else [])
        return made

    start = create(spec, seed=0)
    monkeypatch.setattr(plugins.load("methods", name).copy, "deepcopy", spy)
    found = unlearn(name, make_context(spec), real(start))
    (teacher,) = teachers
    assert same(teacher, start)
    assert not same(found, start)
    assert not teacher.training
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "unsir"])  # which has a repair phase too
def test_keeps_a_history(name, spec, make_context):
    context = make_context(spec)
    model = unlearn(name, context, epochs=3, schedule="cosine", warmup=1)
    assert [row["epoch"] for row in context.history] == [1, 2, 3]
    assert [row["lr"] for row in context.history] == pytest.approx([0.025, 0.05, 0.025])
    assert all(np.isfinite(row["loss"]) and row["seconds"] > 0 for row in context.history)
    assert not model.training


@every_trained
def test_divergence_is_an_error(name, spec, make_context):
    with pytest.raises(Diverged, match=r"the loss is .* in epoch"):
        unlearn(name, make_context(spec), epochs=20, lr=1e30)


@every_trained
def test_bfloat16_keeps_the_weights_in_float32(name, spec, make_context):
    found = unlearn(name, make_context(spec, precision="bfloat16"))
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    assert not same(found, unlearn(name, make_context(spec)))


def test_the_stage_gives_a_method_what_it_declares_and_no_more(spec, dataset, split, tmp_path, monkeypatch):
    def greedy(model, context, settings):
        context.images("forget")

    method = SimpleNamespace(DATA_ROLES=("retain",), unlearn=greedy, Settings=Training)
    monkeypatch.setattr(plugins, "load", lambda kind, name: method)
    checkpoint.save(create(spec, 0), tmp_path / "original", {})
    run, original = Run("net", "ten", "greedy", "all", 0), str(tmp_path / "original")
    with pytest.raises(AccessError, match="'forget'"):
        unlearn_stage.unlearn(run, dataset, split, "", "", "", {"method": {}, **EXECUTION}, "cpu", original)


# --- what methods have in common ------------------------------------------------------------------


def test_salun_of_all_weights_is_rl(spec, make_context):
    for scope in ("all", "last"):
        context = make_context(spec, scope, augment={"crop": 1, "flip": True})
        assert same(unlearn("salun", context, density=1.0), unlearn("rl", context))


def test_scrub_without_its_teacher_is_cf(spec, make_context):
    for scope in ("all", "last"):
        context = make_context(spec, scope, augment={"crop": 1, "flip": True})
        assert same(unlearn("scrub", context, msteps=0, alpha=0.0, gamma=1.0), unlearn("cf", context))


def test_retraining_without_anything_to_forget_is_pretraining(architecture, dataset, tmp_path):
    """Through both stages: the same initialisation, order and augmentation of the images."""
    split = str(tmp_path / "split.parquet")
    tables.write(SPLIT, split, {"id": range(56), "role": ["retain"] * 40 + ["test"] * 16}, {})
    recipe = {
        "model": architecture,
        "method": asdict(Training(epochs=2, batch_size=16)),
        **EXECUTION,
        "augment": {"crop": 1, "flip": True},
    }

    def out(name):
        return [str(tmp_path / name / file) for file in ("model.safetensors", "history.parquet", "cost.parquet")]

    run = Run("net", "nothing", "retrain", "all", 3)
    pretrain.pretrain(run, dataset, *out("pretrain"), str(tmp_path / "snapshots"), recipe, 0, "cpu")
    unlearn_stage.unlearn(run, dataset, split, *out("retrain"), recipe, "cpu")
    assert same(*(checkpoint.load(out(name)[0]) for name in ("pretrain", "retrain")))


def test_retraining_discards_what_was_learned(spec, make_context):
    learned = create(spec, seed=5)
    assert same(unlearn("retrain", make_context(spec), learned), unlearn("retrain", make_context(spec)))


def test_retraining_a_scope_starts_it_afresh(spec, make_context):
    """EU-k before its first epoch: the scope is that of a new model, the rest is the old one."""
    start, context = create(spec, seed=5), make_context(spec, "last")
    fresh, before = state(context.fresh_model("init")), state(start)
    inside = scopes.members(start, "last")
    found = unlearn("retrain", context, start, epochs=0).state_dict()
    assert all(torch.equal(found[key], (fresh if key in inside else before)[key]) for key in found)


def test_retraining_a_scope_starts_it_afresh_once(spec, make_context):
    """From there EU-k is CF-k; a public code starts afresh in every epoch, which leaves one epoch."""
    start, context = create(spec, seed=5), make_context(spec, "last")
    afresh = copy.deepcopy(start)
    scopes.reinitialise(afresh, context.fresh_model("init"), "last")
    assert same(unlearn("retrain", context, start), unlearn("cf", make_context(spec, "last"), afresh))


def phases(name, context, **more):
    """(epoch, role) of every pass over the data that a method makes."""
    found, real = [], context.batches

    def spy(role, epoch, size):
        found.append((epoch, role))
        return real(role, epoch, size)

    context.batches = spy
    unlearn(name, context, **more)
    return found


def test_order_of_passes(spec, make_context):
    f, r = "forget", "retain"
    assert phases("rl", make_context(spec)) == [(1, f), (1, r), (2, f), (2, r)]
    assert phases("salun", make_context(spec)) == [(1, f), (1, r), (2, f), (2, r)]
    assert phases("scrub", make_context(spec), epochs=4, msteps=2) == [(1, f), (1, r), (2, f), (2, r), (3, r), (4, r)]
    assert phases("bs", make_context(spec)) == [(1, f), (2, f)]
    assert phases("cf", make_context(spec)) == [(1, r), (2, r)]


# --- each formula a second time -------------------------------------------------------------------


def naive_sgd(model, batches, loss, lr, momentum, weight_decay):
    """SGD written out: v ← momentum · v + gradient + weight_decay · p;  p ← p - lr · v."""
    model.train()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for batch in batches:
        gradients = torch.autograd.grad(loss(model, batch), list(model.parameters()))
        with torch.no_grad():
            for p, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                v.mul_(momentum).add_(g + weight_decay * p)
                p.sub_(lr * v)
    return model


def negative_log_likelihood(model, batch):
    """Cross-entropy written out."""
    return of_logits(model(batch.x), batch)


def of_logits(logits, batch):
    picked = logits[torch.arange(len(batch.y)), batch.y]
    return (logits.exp().sum(1).log() - picked).mean()


OPTIMIZER = {key: FAST[key] for key in ("lr", "momentum", "weight_decay")}


def close(one, other):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_cf_again(spec, make_context):
    context = make_context(spec)
    batches = [batch for epoch in (1, 2) for batch in context.batches("retain", epoch, 12)]
    close(unlearn("cf", make_context(spec)), naive_sgd(create(spec, 0), batches, negative_log_likelihood, **OPTIMIZER))


def test_rl_again(spec, make_context):
    context, batches = make_context(spec), []
    for epoch in (1, 2):
        images = context.images("forget")
        steps = torch.randint(1, 4, (len(images),), generator=context.generator("random labels", epoch)).tolist()
        wrong = [(label + step) % 4 for label, step in zip(images.labels.tolist(), steps, strict=True)]
        for batch in context.batches("forget", epoch, 12):
            batches.append(batch._replace(y=torch.tensor([wrong[row] for row in batch.rows.tolist()])))
        batches.extend(context.batches("retain", epoch, 12))
    close(unlearn("rl", make_context(spec)), naive_sgd(create(spec, 0), batches, negative_log_likelihood, **OPTIMIZER))


def test_bs_again(spec, make_context):
    """Clean images, and labels from the model as it was at the start, in every epoch."""
    original, augment = learned(spec, make_context), {"crop": 1, "flip": True}
    batches = [
        batch._replace(y=bs.boundary_labels(original, batch, settings("bs")))
        for epoch in (1, 2)
        for batch in make_context(spec, augment=augment).batches("forget", epoch, 4)
    ]
    start = [copy.deepcopy(original).requires_grad_(True) for _ in range(2)]
    found = unlearn("bs", make_context(spec, augment=augment), start[0], batch_size=4)
    close(found, naive_sgd(start[1], batches, negative_log_likelihood, **OPTIMIZER))
    forget = forget_batch(make_context(spec))
    assert negative_log_likelihood(found, forget) > negative_log_likelihood(original, forget)


def naive_divergence(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = (t / temperature).exp(), (s / temperature).exp()
        p, q = p / p.sum(), q / q.sum()
        total = total + (p * (p / q).log()).sum()
    return temperature**2 * total / len(student)


def test_scrubs_divergence_again():
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 4, generator=draw) for _ in range(2))
    for temperature in (1.0, 4.0):
        found = scrub.divergence(student, teacher, temperature)
        torch.testing.assert_close(found, naive_divergence(student, teacher, temperature))
    assert scrub.divergence(student, teacher, 1.0) != scrub.divergence(teacher, student, 1.0)
    assert scrub.divergence(student, student, 4.0).abs() < 1e-6


def test_scrub_again(spec, make_context):
    context, teacher = make_context(spec), create(spec, 0).eval()
    batches = [*context.batches("forget", 1, 4), *context.batches("retain", 1, 12), *context.batches("retain", 2, 12)]

    def loss(model, batch):
        logits = model(batch.x)
        apart = naive_divergence(logits, teacher(batch.x).detach(), 2.0)
        return -apart if batch.role == "forget" else 0.9 * of_logits(logits, batch) + 0.5 * apart

    own = {"msteps": 1, "alpha": 0.5, "gamma": 0.9, "temperature": 2.0, "forget_batch_size": 4}
    optimizer = {**OPTIMIZER, "lr": 0.01}
    close(
        unlearn("scrub", make_context(spec), **own, **optimizer), naive_sgd(create(spec, 0), batches, loss, **optimizer)
    )


def test_scrub_maximises_the_divergence_on_the_forget_set(make_context, spec):
    """With batch norm student and teacher differ from the start; without, the gradient is zero there."""
    context, teacher = make_context(spec), create(spec, 0).eval()
    forget = to_float(context.images("forget").pixels)
    optimizer = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "forget_batch_size": 12}
    student = unlearn("scrub", context, epochs=1, msteps=1, alpha=0.0, gamma=0.0, **optimizer)
    apart = scrub.divergence(student(forget), teacher(forget), 4.0)
    moved = max((a - b).abs().max() for a, b in zip(student.parameters(), teacher.parameters(), strict=True))
    assert (moved > 1e-3 and apart > 1e-3) if spec.stem == "cifar" else moved < 1e-6


# --- labels ---------------------------------------------------------------------------------------


def test_random_labels_are_uniform_over_the_wrong_ones():
    y = torch.arange(10).repeat(4000)
    found = rl.random_labels(y, 10, True, torch.Generator().manual_seed(0))
    table = np.histogram2d(y, found, bins=np.arange(11) - 0.5)[0]
    assert (np.diag(table) == 0).all()
    assert chisquare(table[~np.eye(10, dtype=bool)]).pvalue > 0.01


def test_random_labels_may_include_the_true_one():
    y = torch.arange(10).repeat(4000)
    found = rl.random_labels(y, 10, False, torch.Generator().manual_seed(0))
    table = np.histogram2d(y, found, bins=np.arange(11) - 0.5)[0]
    assert chisquare(table.ravel()).pvalue > 0.01


def taught(context, epoch, **more):
    """(role, place in it) → label that RL teaches in an epoch, in the order of its batches."""
    _, batches = rl.relabelled(context, settings("rl", **more))
    return {
        (b.role, row): label for b in batches(epoch) for row, label in zip(b.rows.tolist(), b.y.tolist(), strict=True)
    }


@pytest.mark.parametrize("relabel", ["epoch", "once"])
def test_labels_are_drawn_anew_each_epoch_or_once_and_the_retain_set_keeps_its_own(spec, make_context, relabel):
    context = make_context(spec)
    first, second = (taught(context, epoch, relabel=relabel) for epoch in (1, 2))
    for found in (first, second):
        assert [found["retain", i] for i in range(20)] == context.images("retain").labels.tolist()
    wrong = [[found["forget", i] for i in range(12)] for found in (first, second)]
    assert (wrong[0] == wrong[1]) == (relabel == "once")
    roles = [role for role, _ in first]
    assert roles == ["forget"] * 12 + ["retain"] * 20


def test_mixed_order_is_one_shuffled_pass_over_the_same_labels(spec, make_context):
    context = make_context(spec)
    mixed, plain = taught(context, 1, order="mixed"), taught(context, 1)
    assert {role for role, _ in mixed} == {"mixed"}
    assert [mixed["mixed", i] for i in range(12)] == [plain["forget", i] for i in range(12)]
    assert [mixed["mixed", 12 + i] for i in range(20)] == [plain["retain", i] for i in range(20)]
    places = [place for _, place in mixed]
    assert places != sorted(places)
    assert places != [place for _, place in taught(context, 2, order="mixed")]
    assert not same(unlearn("rl", make_context(spec)), unlearn("rl", make_context(spec), order="mixed"))


def learned(spec, make_context):
    """A model that has learned something, so that boundaries lie near and far."""
    return unlearn("cf", make_context(spec), epochs=10).requires_grad_(False).eval()


def forget_batch(context):
    """All forget images, not augmented."""
    return next(replace(context, augment={"crop": 0, "flip": False}).batches("forget", 1, 100))


@pytest.mark.parametrize("strict", [True, False])
def test_boundary_labels_again(spec, make_context, strict):
    model, batch, bound = learned(spec, make_context), forget_batch(make_context(spec)), 0.1
    found = bs.boundary_labels(model, batch, settings("bs", strict=strict, bound=bound))
    for x, y, label in zip(batch.x, batch.y.tolist(), found.tolist(), strict=True):
        x = x[None].requires_grad_(True)
        (gradient,) = torch.autograd.grad(-model(x).log_softmax(1)[0, y], x)
        neighbour = torch.round((x + bound * gradient.sign()).clip(0, 1) * 255) / 255
        ranking = model(neighbour)[0].argsort(descending=True).tolist()
        assert label == next(c for c in ranking if c != y or not strict)


def test_strict_boundary_labels_are_never_the_true_ones(spec, make_context):
    """Where the step does not cross the boundary the official labels reinforce the true class."""
    model, batch = learned(spec, make_context), forget_batch(make_context(spec))
    batch = batch._replace(y=model(batch.x).argmax(1))  # every image is classified as its label
    timid = {"bound": 0.002}
    assert (bs.boundary_labels(model, batch, settings("bs", strict=True, **timid)) != batch.y).all()
    assert (bs.boundary_labels(model, batch, settings("bs", strict=False, **timid)) == batch.y).any()


@pytest.mark.parametrize("bound", [0.02, 0.1, 0.5])
def test_the_neighbour_is_an_image_within_the_bound(spec, make_context, bound):
    model, batch, inputs = learned(spec, make_context), forget_batch(make_context(spec)), []
    model.register_forward_pre_hook(lambda module, given: inputs.append(given[0].detach()))
    bs.boundary_labels(model, batch, settings("bs", bound=bound))
    neighbour = inputs[-1]
    assert neighbour.min() >= 0
    assert neighbour.max() <= 1
    assert (neighbour - batch.x).abs().max() <= bound + 0.5 / 255 + 1e-6  # rounded to grey levels
    torch.testing.assert_close(neighbour * 255, (neighbour * 255).round(), rtol=0, atol=1e-4)


# --- saliency -------------------------------------------------------------------------------------


def test_saliency_again(spec, make_context):
    """|gradient of the mean loss|, in evaluation mode, whatever the batches and the augmentation."""
    context, model = make_context(spec, augment={"crop": 2, "flip": True}), create(spec, 0)
    expected = copy.deepcopy(model).eval()
    negative_log_likelihood(expected, forget_batch(context)).backward()
    for batch_size in (5, 12):
        found = salun.saliency(model, context, batch_size)
        for name, parameter in expected.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad.abs(), rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_masks_have_their_density_and_hold_the_most_salient(density):
    draw = torch.Generator().manual_seed(0)
    values = {"a": torch.rand(7, 5, generator=draw), "b": torch.rand(66, generator=draw) * 3}
    mask = salun.saliency_mask(values, density)
    chosen = torch.cat([values[name][mask[name]] for name in values])
    rest = torch.cat([values[name][~mask[name]] for name in values])
    assert len(chosen) == int(density * 101)
    assert not len(chosen) or not len(rest) or chosen.min() >= rest.max()


def test_masks_are_nested_even_with_ties():
    values = {"a": torch.zeros(50), "b": torch.randint(3, (50,), generator=torch.Generator().manual_seed(0)).float()}
    masks = [torch.cat(list(salun.saliency_mask(values, density).values())) for density in np.linspace(0, 1, 21)]
    assert [int(mask.sum()) for mask in masks] == list(range(0, 101, 5))
    assert all((small <= large).all() for small, large in pairwise(masks))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_masked_weights_stay_bit_for_bit(spec, make_context, optimizer):
    """Against weight decay, momentum and moment estimates; the others move."""
    model, context = create(spec, 0), make_context(spec, "intermediate+last")
    before = state(model)
    scopes.freeze(model, context.scope)
    mask = salun.saliency_mask(salun.saliency(model, context, 8), 0.3)
    unlearn("salun", context, model, density=0.3, optimizer=optimizer, lr=0.01, weight_decay=0.1)
    for name, moves in mask.items():
        now = model.get_parameter(name).detach()
        assert torch.equal(now[~moves], before[name][~moves]), name
    assert any(not torch.equal(model.get_parameter(n)[m], before[n][m]) for n, m in mask.items())


# --- the loop -------------------------------------------------------------------------------------


def test_learning_rates():
    def rates(**more):
        own = Training(lr=1.0, epochs=6, **more)
        return [learning_rate(own, epoch) for epoch in range(1, 7)]

    assert rates() == [1.0] * 6
    assert rates(warmup=3) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    cosine = rates(warmup=2, schedule="cosine")
    assert cosine == pytest.approx([1 / 3, 2 / 3, *(0.5 * (1 + np.cos(np.pi * k / 4)) for k in range(4))])
    assert rates(warmup=9, schedule="cosine")[-1] == pytest.approx(0.6)


def test_an_epoch_sees_every_image_once(spec, make_context):
    context = make_context(spec)
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


def test_streams_are_separate(spec, make_context):
    context = make_context(spec)
    purposes = [("init", 0), ("order retain", 1), ("order retain", 2), ("augment retain", 1)]
    assert len({j.stream(*purpose) for j in (context, make_context(spec, seed=1)) for purpose in purposes}) == 8
    assert context.stream("init") == make_context(spec, "last", roles=()).stream("init")


def test_cf_learns(spec, make_context):
    context = make_context(spec)
    unlearn("cf", context, epochs=20, optimizer="adam", lr=0.01, weight_decay=0.0)
    assert context.history[-1]["loss"] < 0.85 * context.history[0]["loss"]


def test_after_step_has_the_last_word(spec, make_context):
    context, model = make_context(spec), create(spec, 0)
    start = state(model)

    def undo(found):
        with torch.no_grad():
            for name, p in found.named_parameters():
                p.copy_(start[name])

    fit(model, cf.Settings(**OPTIMIZER, epochs=1), context, lambda e: context.batches("retain", e, 8), after_step=undo)
    assert all(torch.equal(p, start[name]) for name, p in model.named_parameters())
