"""Each method's update against a naive second version, its limits, and what methods have in common."""

import copy
import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare
from torch import nn

from unlearn.config import plugins
from unlearn.config.settings import Training
from unlearn.methods import (
    bad_teacher,
    boundary_expand,
    bs,
    cf,
    fisher,
    ga,
    influence,
    l1_sparse,
    natmu,
    neggrad_plus,
    rl,
    salun,
    scrub,
    ssd,
    unsir,
)
from unlearn.models import scopes
from unlearn.models.classifier import ModelError, Spec, create, head
from unlearn.models.images import ImageSet, to_float
from unlearn.training.context import AccessError, MethodContext, mixture
from unlearn.training.loop import fit

BN = Spec("resnet18", 4, (1, 8, 8), {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8]}, "cifar")
LN = Spec(
    "vit_tiny_patch16_224", 4, (1, 8, 8), {"img_size": 8, "patch_size": 2, "embed_dim": 8, "depth": 3, "num_heads": 2}
)
both = pytest.mark.parametrize("spec", [BN, LN], ids=["bn", "ln"])
AUGMENT = {"crop": 1, "flip": True}
OPTIMIZER = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}


@cache
def everything() -> ImageSet:
    """24 images of 4 classes, brighter in the class's quarter; ids 100, 102, …"""
    labels = torch.arange(24) % 4
    pixels = torch.randint(160, (24, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    for image, label in zip(pixels, labels, strict=True):
        image[:, 4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) : 4 * (label % 2) + 4] += 90
    return ImageSet(100 + 2 * torch.arange(24), pixels.to(torch.uint8), labels)


def images(kind: str = "random") -> dict[str, ImageSet]:
    """Retain and forget: every third image, or the class 2."""
    chosen = torch.arange(24) % 3 == 1 if kind == "random" else everything().labels == 2
    return {"retain": everything().select(~chosen), "forget": everything().select(chosen)}


@cache
def _trained(name: str):
    spec, epochs, lr = {"bn": (BN, 15, 0.01), "ln": (LN, 40, 0.005)}[name]
    recipe = Training(epochs=epochs, lr=lr, batch_size=8, optimizer="adamw")
    context = MethodContext(3, spec, {"train": everything()}, torch.device("cpu"))
    model = context.fresh_model()
    fit(model, recipe, context, lambda epoch: context.batches("train", epoch, recipe.batch_size))
    return model


def original(spec: Spec = LN):
    """A model that was trained a little, so that no parameter and no statistic is trivial."""
    return copy.deepcopy(_trained("bn" if spec is BN else "ln"))


def make_context(module, spec: Spec = LN, kind: str = "random", **more) -> MethodContext:
    """A context with the roles in the method's DATA_ROLES and no other."""
    data = {role: found for role, found in images(kind).items() if role in module.DATA_ROLES}
    return MethodContext(more.pop("seed", 5), spec, data, torch.device("cpu"), **more)


def run(name: str, spec: Spec = LN, kind: str = "random", model=None, context: MethodContext | None = None, **settings):
    """The model that a method leaves, and its context."""
    module = plugins.load("methods", name)
    context = context or make_context(module, spec, kind)
    model = original(spec) if model is None else model
    module.unlearn(model, context, module.Settings(**settings))
    return model, context


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def close(model, expected: dict[str, torch.Tensor], **tolerance) -> None:
    state = dict(model.named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(state[name].detach(), value, **(tolerance or {"rtol": 1e-4, "atol": 1e-6}))


def forget_loss(model, name: str = "forget") -> float:
    found = images()[name]
    return F.cross_entropy(model.eval()(to_float(found.pixels)), found.labels).item()


def forget_batch():
    """All forget images, not augmented."""
    return next(make_context(ga).batches("forget", 1, 100))


def descend(model, batches, loss, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> dict:
    """SGD written out, v ← momentum · v + gradient + weight_decay · p and p ← p - lr · v: the parameters after one
    step per batch."""
    speed = {}
    for batch in batches:
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(loss(model, batch), list(trainable.values()))
        with torch.no_grad():
            for (name, p), g in zip(trainable.items(), gradients, strict=True):
                g = g + weight_decay * p
                speed[name] = g if name not in speed else momentum * speed[name] + g
                p -= lr * speed[name]
    return {name: p.detach() for name, p in model.named_parameters()}


def entropy(model, batch) -> torch.Tensor:
    """Cross-entropy written out."""
    return of_logits(model(batch.x), batch)


def of_logits(logits, batch) -> torch.Tensor:
    picked = logits[torch.arange(len(batch.y)), batch.y]
    return (logits.exp().sum(1).log() - picked).mean()


# cf


@both
def test_cf_again(spec):
    context = make_context(cf, spec)
    batches = [batch for epoch in (1, 2) for batch in context.batches("retain", epoch, 8)]
    model, _ = run("cf", spec, epochs=2, batch_size=8, **OPTIMIZER)
    close(model, descend(original(spec).train(), batches, entropy, **OPTIMIZER))


# rl


@both
def test_rl_again(spec):
    context, batches = make_context(rl, spec), []
    for epoch in (1, 2):
        images = context.images("forget")
        steps = torch.randint(1, 4, (len(images),), generator=context.generator("random labels", epoch)).tolist()
        wrong = [(label + step) % 4 for label, step in zip(images.labels.tolist(), steps, strict=True)]
        for batch in context.batches("forget", epoch, 8):
            batches.append(batch._replace(y=torch.tensor([wrong[row] for row in batch.rows.tolist()])))
        batches.extend(context.batches("retain", epoch, 8))
    model, _ = run("rl", spec, epochs=2, batch_size=8, **OPTIMIZER)
    close(model, descend(original(spec).train(), batches, entropy, **OPTIMIZER))


@pytest.mark.parametrize("exclude_true", [True, False])
def test_random_labels_are_uniform_over_the_wrong_ones(exclude_true):
    """Or over all, where the true one may be drawn."""
    y = torch.arange(10).repeat(4000)
    drawn = rl.random_labels(y, 10, exclude_true, torch.Generator().manual_seed(0))
    table = np.histogram2d(y, drawn, bins=np.arange(11) - 0.5)[0]
    off_diagonal = ~np.eye(10, dtype=bool)
    assert (np.diag(table) == 0).all() == exclude_true
    assert chisquare(table[off_diagonal] if exclude_true else table.ravel()).pvalue > 0.01


def taught(context, epoch, **more):
    """(role, place in it) → label that RL teaches in an epoch, in the order of its batches."""
    _, batches = rl.relabelled(context, rl.Settings(batch_size=8, **more))
    return {
        (b.role, row): label for b in batches(epoch) for row, label in zip(b.rows.tolist(), b.y.tolist(), strict=True)
    }


@pytest.mark.parametrize("relabel", ["epoch", "once"])
def test_labels_are_drawn_anew_each_epoch_or_once_and_the_retain_set_keeps_its_own(relabel):
    context = make_context(rl)
    first, second = (taught(context, epoch, relabel=relabel) for epoch in (1, 2))
    for labels in (first, second):
        assert [labels["retain", i] for i in range(16)] == context.images("retain").labels.tolist()
    wrong = [[labels["forget", i] for i in range(8)] for labels in (first, second)]
    assert (wrong[0] == wrong[1]) == (relabel == "once")
    assert [role for role, _ in first] == ["forget"] * 8 + ["retain"] * 16


def test_mixed_order_is_one_shuffled_pass_over_the_same_labels():
    context = make_context(rl)
    mixed, plain = taught(context, 1, order="mixed"), taught(context, 1)
    assert {role for role, _ in mixed} == {"mixed"}
    assert [mixed["mixed", i] for i in range(8)] == [plain["forget", i] for i in range(8)]
    assert [mixed["mixed", 8 + i] for i in range(16)] == [plain["retain", i] for i in range(16)]
    places = [place for _, place in mixed]
    assert places != sorted(places)
    assert places != [place for _, place in taught(context, 2, order="mixed")]
    one, other = (run("rl", epochs=1, batch_size=8, order=order)[0] for order in ("sequential", "mixed"))
    assert not same(one.state_dict(), other.state_dict())


# salun


@pytest.mark.parametrize("scope", ["all", "last"])
def test_salun_of_all_weights_is_rl(scope):
    ours, theirs = (
        run(name, BN, context=make_context(rl, BN, scope=scope, augment=AUGMENT), epochs=2, lr=0.05, **own)[0]
        for name, own in (("salun", {"density": 1.0}), ("rl", {}))
    )
    assert same(ours.state_dict(), theirs.state_dict())


@both
def test_saliency_again(spec):
    """|gradient of the mean loss|, in evaluation mode, whatever the batches and the augmentation."""
    context, model = make_context(salun, spec, augment={"crop": 2, "flip": True}), original(spec)
    expected = copy.deepcopy(model).eval()
    entropy(expected, forget_batch()).backward()
    for batch_size in (3, 8):
        saliency = salun.saliency(model, context, batch_size)
        for name, parameter in expected.named_parameters():
            torch.testing.assert_close(saliency[name], parameter.grad.abs(), rtol=1e-4, atol=1e-6)
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
@both
def test_masked_weights_stay_bit_for_bit(spec, optimizer):
    """Against weight decay, momentum and moment estimates; the others change."""
    model, context = original(spec), make_context(salun, spec, scope="intermediate+last")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    scopes.freeze(model, context.scope)
    mask = salun.saliency_mask(salun.saliency(model, context, 8), 0.3)
    own = {"density": 0.3, "optimizer": optimizer, "lr": 0.01, "weight_decay": 0.1}
    salun.unlearn(model, context, salun.Settings(epochs=2, batch_size=8, **own))
    for name, chosen in mask.items():
        now = model.get_parameter(name).detach()
        assert torch.equal(now[~chosen], before[name][~chosen]), name
    assert any(not torch.equal(model.get_parameter(n)[m], before[n][m]) for n, m in mask.items())


# bs


@both
def test_bs_again(spec):
    """Clean images, and labels from the model as it was at the start, in every epoch."""
    context = make_context(bs, spec, augment=AUGMENT)
    start = original(spec).requires_grad_(False).eval()
    batches = [
        batch._replace(y=bs.boundary_labels(start, batch, bs.Settings()))
        for epoch in (1, 2)
        for batch in context.batches("forget", epoch, 4)
    ]
    model, _ = run("bs", spec, context=context, epochs=2, batch_size=4, **OPTIMIZER)
    close(model, descend(original(spec).train(), batches, entropy, **OPTIMIZER), rtol=1e-4, atol=1e-5)
    assert forget_loss(model) > forget_loss(start)


@pytest.mark.parametrize("strict", [True, False])
@both
def test_boundary_labels_again(spec, strict):
    model, batch, bound = original(spec).eval(), forget_batch(), 0.1
    labels = bs.boundary_labels(model, batch, bs.Settings(strict=strict, bound=bound))
    for x, y, label in zip(batch.x, batch.y.tolist(), labels.tolist(), strict=True):
        x = x[None].requires_grad_(True)
        (gradient,) = torch.autograd.grad(-model(x).log_softmax(1)[0, y], x)
        neighbour = torch.round((x + bound * gradient.sign()).clip(0, 1) * 255) / 255
        ranking = model(neighbour)[0].argsort(descending=True).tolist()
        assert label == next(c for c in ranking if c != y or not strict)


@both
def test_strict_boundary_labels_are_never_the_true_ones(spec):
    """Where the step does not cross the boundary the official labels reinforce the true class."""
    model, batch = original(spec).eval(), forget_batch()
    batch = batch._replace(y=model(batch.x).argmax(1))  # every image is classified as its label
    timid = {"bound": 0.002}
    assert (bs.boundary_labels(model, batch, bs.Settings(strict=True, **timid)) != batch.y).all()
    assert (bs.boundary_labels(model, batch, bs.Settings(strict=False, **timid)) == batch.y).any()


@pytest.mark.parametrize("bound", [0.02, 0.1, 0.5])
@both
def test_the_neighbour_is_an_image_within_the_bound(spec, bound):
    model, batch, inputs = original(spec).eval(), forget_batch(), []
    model.register_forward_pre_hook(lambda module, given: inputs.append(given[0].detach()))
    bs.boundary_labels(model, batch, bs.Settings(bound=bound))
    neighbour = inputs[-1]
    assert neighbour.min() >= 0
    assert neighbour.max() <= 1
    assert (neighbour - batch.x).abs().max() <= bound + 0.5 / 255 + 1e-6  # rounded to grey levels
    torch.testing.assert_close(neighbour * 255, (neighbour * 255).round(), rtol=0, atol=1e-4)


# scrub


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
        divergence = scrub.divergence(student, teacher, temperature)
        torch.testing.assert_close(divergence, naive_divergence(student, teacher, temperature))
    assert scrub.divergence(student, teacher, 1.0) != scrub.divergence(teacher, student, 1.0)
    assert scrub.divergence(student, student, 4.0).abs() < 1e-6


@both
def test_scrub_again(spec):
    context, teacher = make_context(scrub, spec), original(spec).eval()
    batches = [*context.batches("forget", 1, 4), *context.batches("retain", 1, 8), *context.batches("retain", 2, 8)]

    def loss(model, batch):
        logits = model(batch.x)
        apart = naive_divergence(logits, teacher(batch.x).detach(), 2.0)
        return -apart if batch.role == "forget" else 0.9 * of_logits(logits, batch) + 0.5 * apart

    own = {"msteps": 1, "alpha": 0.5, "gamma": 0.9, "temperature": 2.0, "batch_size": 8, "forget_batch_size": 4}
    optimizer = {**OPTIMIZER, "lr": 0.01}
    model, _ = run("scrub", spec, epochs=2, **own, **optimizer)
    close(model, descend(original(spec).train(), batches, loss, **optimizer), rtol=1e-4, atol=1e-5)


@both
def test_scrub_maximises_the_divergence_on_the_forget_set(spec):
    """With batch norm student and teacher differ from the start; without, the gradient is zero there."""
    teacher, forget = original(spec).eval(), forget_batch().x
    plain = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "forget_batch_size": 8}
    student, _ = run("scrub", spec, epochs=1, msteps=1, alpha=0.0, gamma=0.0, **plain)
    apart = scrub.divergence(student(forget), teacher(forget), 4.0)
    change = max((a - b).abs().max() for a, b in zip(student.parameters(), teacher.parameters(), strict=True))
    assert (change > 1e-3 and apart > 1e-3) if spec is BN else change < 1e-6


@pytest.mark.parametrize("scope", ["all", "last"])
def test_scrub_without_its_teacher_is_cf(scope):
    ours, theirs = (
        run(name, BN, context=make_context(scrub, BN, scope=scope, augment=AUGMENT), epochs=2, lr=0.05, **own)[0]
        for name, own in (("scrub", {"msteps": 0, "alpha": 0.0, "gamma": 1.0}), ("cf", {}))
    )
    assert same(ours.state_dict(), theirs.state_dict())


# ga


@pytest.mark.parametrize(("spec", "mode"), [(BN, "running"), (LN, "batch")], ids=["bn", "ln"])
def test_ga_is_ascent_with_momentum_and_decay(spec, mode):
    context = make_context(ga, spec)
    model, _ = run("ga", spec, context=context, epochs=2, lr=0.01, batch_size=4, batch_norm=mode)
    batches = [batch for epoch in (1, 2) for batch in context.batches("forget", epoch, 4)]
    naive = descend(original(spec).eval(), batches, lambda m, b: -entropy(m, b), 0.01, 0.9, 5e-4)
    close(model, naive)
    assert forget_loss(model) > forget_loss(original(spec))


def test_ga_running_keeps_statistics_and_batch_moves_them():
    buffers = dict(original(BN).named_buffers())
    kept, _ = run("ga", BN, batch_norm="running", lr=0.01)
    drifted, _ = run("ga", BN, batch_norm="batch", lr=0.01)
    assert same(dict(kept.named_buffers()), buffers)
    assert not torch.equal(drifted.net.bn1.running_mean, buffers["net.bn1.running_mean"])


def test_ga_small_step_raises_the_loss_by_lr_times_squared_gradient():
    before = original(BN)
    found = images()["forget"]
    loss = F.cross_entropy(before(to_float(found.pixels)), found.labels)
    square = sum(g.square().sum() for g in torch.autograd.grad(loss, list(before.parameters()))).item()
    plain = {"epochs": 1, "momentum": 0.0, "weight_decay": 0.0, "batch_norm": "running"}
    after, _ = run("ga", BN, lr=1e-4, **plain)
    assert forget_loss(after) - loss.item() == pytest.approx(1e-4 * square, rel=0.05)


@pytest.mark.parametrize("limit", [0.1, 1e6])
def test_ga_clips_the_norm(limit):
    context = make_context(ga)
    plain = {"epochs": 1, "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}
    model, _ = run("ga", context=context, clip_norm=limit, **plain)
    before = original()
    (batch,) = context.batches("forget", 1, 256)
    found = torch.autograd.grad(-entropy(before, batch), list(before.parameters()))
    norm = math.sqrt(sum(g.square().sum().item() for g in found))
    assert norm > 0.1
    factor = min(1.0, limit / norm)
    close(model, {n: p.detach() - 0.5 * factor * g for (n, p), g in zip(before.named_parameters(), found, strict=True)})
    assert context.history[0]["loss"] == pytest.approx(-entropy(before, batch).item(), rel=1e-5)


# neggrad_plus


def test_neggrad_plus_with_alpha_one_is_cf():
    common = {"epochs": 2, "lr": 0.01, "batch_size": 8, "momentum": 0.9, "weight_decay": 5e-4}
    ours, _ = run("neggrad_plus", alpha=1.0, forget_batch_size=3, **common)
    theirs, _ = run("cf", context=make_context(cf), **common)
    assert same(ours.state_dict(), theirs.state_dict())


def test_neggrad_plus_with_alpha_zero_is_ga():
    """2 epochs of 2 retain batches take the same 4 forget batches as 2 passes of 2."""
    common = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "epochs": 2}
    ours, _ = run("neggrad_plus", alpha=0.0, batch_size=8, forget_batch_size=4, **common)
    theirs, _ = run("ga", batch_size=4, **common)
    assert same(ours.state_dict(), theirs.state_dict())


def test_neggrad_plus_is_the_weighted_difference():
    context = make_context(neggrad_plus)
    model, _ = run("neggrad_plus", context=context, alpha=0.8, epochs=2, lr=0.01, batch_size=5, forget_batch_size=3)
    retain = [b for epoch in (1, 2) for b in context.batches("retain", epoch, 5)]
    forget = [b for epoch in (1, 2, 3) for b in context.batches("forget", epoch, 3)]
    pairs = list(zip(retain, forget, strict=False))
    assert len(pairs) == len(retain) == 8
    close(model, descend(original(), pairs, lambda m, b: 0.8 * entropy(m, b[0]) - 0.2 * entropy(m, b[1]), 0.01))


def test_neggrad_plus_shuffles_and_augments_every_pass():
    context = make_context(neggrad_plus, augment={"crop": 1, "flip": True})
    stream = neggrad_plus.passes(context, "forget", 8, 0)
    first, second = next(stream), next(stream)
    assert not torch.equal(first.y, second.y) or not torch.equal(first.x, second.x)
    assert torch.equal(first.y.sort().values, second.y.sort().values)
    assert torch.equal(second.x, next(context.batches("forget", 2, 8)).x)


def test_neggrad_plus_finds_its_place_in_the_stream():
    context = make_context(neggrad_plus, augment={"crop": 1, "flip": True})
    stream = neggrad_plus.passes(context, "forget", 3, 0)
    whole = [next(stream) for _ in range(9)]
    for first in range(8):
        assert torch.equal(next(neggrad_plus.passes(context, "forget", 3, first)).x, whole[first].x)


# l1_sparse


def test_l1_sparse_with_gamma_zero_is_cf():
    for spec in (BN, LN):
        ours, _ = run("l1_sparse", spec, epochs=2, gamma=0.0, batch_size=8)
        plain, _ = run("l1_sparse", spec, epochs=2, gamma=1.0, plain_epochs=2, batch_size=8)
        theirs, _ = run("cf", spec, context=make_context(cf, spec), epochs=2, batch_size=8)
        assert same(ours.state_dict(), theirs.state_dict())
        assert same(plain.state_dict(), theirs.state_dict())


def test_l1_sparse_penalty_falls_linearly():
    settings = l1_sparse.Settings(epochs=6, plain_epochs=2, gamma=0.8)
    assert [l1_sparse.penalty(settings, epoch) for epoch in range(1, 7)] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0, 0])


def test_l1_sparse_adds_the_sign_of_the_scope():
    context = make_context(l1_sparse, scope="last")
    model, _ = run("l1_sparse", context=context, epochs=2, gamma=0.01, batch_size=8)
    before = original()
    scopes.freeze(before, "last")
    steps = [
        (batch, gamma) for epoch, gamma in ((1, 0.01), (2, 0.005)) for batch in context.batches("retain", epoch, 8)
    ]

    def loss(m, step):
        norm = sum((p * p.detach().sign()).sum() for p in m.parameters() if p.requires_grad)
        return entropy(m, step[0]) + step[1] * norm

    expected = descend(before, steps, loss, 0.01, 0.9, 5e-4)
    close(model, expected)
    plain, _ = run("cf", context=make_context(cf, scope="last"), epochs=2, batch_size=8)
    assert sum(p.abs().sum() for p in model.parameters()) < sum(p.abs().sum() for p in plain.parameters())


# bad_teacher


def test_bad_teacher_follows_the_teacher_in_charge():
    context = make_context(bad_teacher)
    optimise = {"lr": 0.1, "optimizer": "sgd", "momentum": 0.0, "batch_size": 6}
    model, _ = run("bad_teacher", context=context, retain_share=0.5, temperature=2.0, **optimise)
    competent, incompetent = original(), create(LN, context.stream("incompetent teacher")).eval()
    lessons = bad_teacher.tagged(context, 0.5)

    def naive(student, batch):
        total = 0
        for x, forgotten in zip(batch.x, batch.y, strict=True):
            teacher = incompetent if forgotten else competent
            p = (teacher(x[None])[0] / 2).softmax(0).detach()
            q = (student(x[None])[0] / 2).softmax(0)
            total = total + (p * (p.log() - q.log())).sum()
        return total / len(batch.y)

    batches = list(replace(context, data={"lessons": lessons}).batches("lessons", 1, 6))
    assert len(batches) == 3
    close(model, descend(original(), batches, naive, 0.1))


def test_bad_teacher_sees_all_forgotten_and_a_share_of_the_rest():
    context = make_context(bad_teacher)
    found = bad_teacher.tagged(context, 0.3)
    forgotten = found.labels == 1
    assert torch.equal(found.ids[forgotten], context.images("forget").ids)
    assert torch.equal(found.pixels[forgotten], context.images("forget").pixels)
    rest = found.ids[~forgotten].tolist()
    assert len(rest) == len(set(rest)) == int(0.3 * 16)
    assert set(rest) < set(context.images("retain").ids.tolist())
    assert set(rest) != set(bad_teacher.tagged(make_context(bad_teacher, seed=6), 0.3).ids[~forgotten].tolist())
    assert set(found.labels[~forgotten].tolist()) == {0}


def test_bad_teacher_with_nothing_to_forget_stays():
    context = make_context(bad_teacher)
    context.data["forget"] = context.data["forget"].select(torch.arange(0))
    model, _ = run("bad_teacher", context=context, optimizer="sgd", lr=0.1)
    assert context.history[0]["loss"] == pytest.approx(0, abs=1e-6)
    close(model, dict(original().named_parameters()), rtol=0, atol=1e-6)


def test_divergence_is_summed_over_classes():
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.2, 0.2, 0.6]])
    expected = (p * (p / q).log()).sum().item()
    assert bad_teacher.divergence(q.log(), p.log(), 1.0).item() == pytest.approx(expected)


# ssd


def naive_importances(model, found: ImageSet, size: int) -> dict[str, torch.Tensor]:
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    starts = range(0, len(found), size)
    for start in starts:
        x, y = to_float(found.pixels[start : start + size]), found.labels[start : start + size]
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for name, p in model.named_parameters():
            total[name] += p.grad**2 / len(starts)
    return total


@both
@pytest.mark.parametrize("how", ["sample", "official", "ids"])
def test_ssd_dampens_what_matters_more_to_the_forget_set(spec, how):
    """D by the batches of five: retain before forget, as in the official code, or in the order of the ids."""
    kind = {"importance": "sample"} if how == "sample" else {"importance": "batch", "order": how}
    model, _ = run("ssd", spec, alpha=1.5, dampening=0.8, batch_size=5, **kind)
    before = original(spec)
    size = 1 if how == "sample" else 5
    whole = everything() if how == "ids" else images()["retain"] + images()["forget"]
    to_forget = naive_importances(before, images()["forget"], size)
    to_all = naive_importances(before, whole, size)
    unclear = {name: value < 1e-12 for name, value in to_forget.items()}  # biases of keys: zero but for rounding
    expected, selected = {}, 0
    for name, p in before.named_parameters():
        chosen = to_forget[name] > 1.5 * to_all[name]
        selected += chosen.sum().item()
        factor = torch.clamp(0.8 * to_all[name] / to_forget[name], max=1)
        value = torch.where(chosen, factor * p.detach(), p.detach())
        expected[name] = torch.where(unclear[name], model.get_parameter(name).detach(), value)
    assert 0 < selected < sum(p.numel() for p in before.parameters())
    close(model, expected)
    assert same(dict(model.named_buffers()), dict(before.named_buffers()))


@pytest.mark.parametrize(("importance", "strength"), [("sample", 1.0), ("batch", 3.0)])
def test_ssd_neither_grows_nor_flips_and_shrinks_fewer_as_alpha_grows(importance, strength):
    before = original(BN)
    moved = []
    for alpha in (0.5, 1.0, 2.0, 1e30):
        model, _ = run("ssd", BN, alpha=alpha, dampening=strength, importance=importance, batch_size=5)
        pairs = list(zip(before.parameters(), model.parameters(), strict=True))
        assert all((new.abs() <= old.abs()).all() and (new * old >= 0).all() for old, new in pairs)
        moved.append(torch.cat([(old != new).flatten() for old, new in pairs]))
    few, many = moved[1], moved[0]
    assert (few <= many).all()
    assert (moved[2] <= few).all()
    assert moved[0].any()
    assert not moved[3].any()


def test_ssds_importance_to_samples_does_not_depend_on_batches(monkeypatch):
    def dampened(importance, **settings):
        return run("ssd", BN, alpha=1.2, importance=importance, **settings)[0].state_dict()

    one = dampened("sample")
    assert same(one, dampened("sample", batch_size=3, order="ids"))
    monkeypatch.setattr(ssd, "CHUNK", 5)
    torch.testing.assert_close(one, dampened("sample"), rtol=1e-4, atol=1e-6)
    assert not same(dampened("batch"), dampened("batch", batch_size=3))


def test_ssds_ratio_of_importances_to_samples_is_bounded():
    """D holds the forget set, so no weight matters more to it than |D| / |D_f| = 3 times."""
    assert same(run("ssd", BN, importance="sample", alpha=3.01)[0].state_dict(), original(BN).state_dict())
    assert not same(run("ssd", BN, importance="sample", alpha=1.2)[0].state_dict(), original(BN).state_dict())


def test_ssds_official_batches_are_of_one_set(monkeypatch):
    """16 retain and 8 forget images in batches of 4; in the order of the ids every third image is to be forgotten."""
    seen, context = [], make_context(ssd)
    gone = set(images()["forget"].ids.tolist())

    def squares(model, context, images, size):
        seen.append([len(gone & set(part)) for part in images.ids.split(size) for part in [part.tolist()]])
        return {}

    monkeypatch.setattr(ssd, "batch_squares", squares)
    for order in ("official", "ids"):
        ssd.importances(None, context, ssd.Settings(importance="batch", order=order, batch_size=4))
    assert seen == [[4, 4], [0, 0, 0, 0, 4, 4], [4, 4], [1, 2, 1, 1, 2, 1]]


def test_ssd_selects_nothing_where_the_sets_are_the_same():
    """D_f = D: the importances are equal, and equal is not more."""
    context = make_context(ssd)
    context.data = {"forget": everything(), "retain": everything().select(torch.arange(0))}
    model, _ = run("ssd", context=context, alpha=1.0, dampening=0.1, importance="batch")
    assert same(model.state_dict(), original().state_dict())


# fisher


def naive_fisher(model, found: ImageSet) -> dict[str, torch.Tensor]:
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for pixels in found.pixels:
        log_p = model(to_float(pixels[None]))[0].log_softmax(0)
        for y in range(len(log_p)):
            found_gradients = torch.autograd.grad(log_p[y], list(model.parameters()), retain_graph=True)
            for value, g in zip(total.values(), found_gradients, strict=True):
                value += log_p[y].exp().detach() * g**2 / len(found)
    return total


@both
def test_fisher_information_is_exact(spec):
    context, model = make_context(fisher, spec), original(spec)
    ours = fisher.fisher_diagonal(model, context, fisher.Settings(batch_size=5))
    for name, value in naive_fisher(model, images()["retain"]).items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-9)


def test_fisher_samples_do_not_depend_on_the_chunk():
    context, model = make_context(fisher, BN), original(BN)
    small = fisher.fisher_diagonal(model, context, fisher.Settings(samples=6, batch_size=4))
    large = fisher.fisher_diagonal(model, context, fisher.Settings(samples=6, batch_size=100))
    whole = fisher.fisher_diagonal(model, context, fisher.Settings())
    for name in small:
        torch.testing.assert_close(small[name], large[name], rtol=1e-4, atol=1e-9)
    assert any(not torch.allclose(small[name], whole[name]) for name in small)


def test_fisher_variance():
    information = torch.tensor([[1.0, 3.0], [0.0, 1e-8]])
    inverse = 1 / (information + 1e-8)
    weight = fisher.variance(information, 0.5, last=False)
    torch.testing.assert_close(weight[0], torch.full((2,), 0.5 * inverse[0].mean().item()))
    torch.testing.assert_close(weight[1], torch.full((2,), 0.5 * 1e3))
    torch.testing.assert_close(fisher.variance(information, 0.5, last=True)[1], torch.full((2,), 10 * 0.5 * 1e2))
    vector = torch.tensor([0.0, 2.0])
    torch.testing.assert_close(fisher.variance(vector, 0.5, last=False), torch.tensor([10 * 0.5 * 1e3, 10 * 0.5 * 0.5]))
    torch.testing.assert_close(fisher.variance(vector[1], 0.5, last=False), torch.tensor(0.25))
    assert (fisher.variance(information + 1, 0.5, False) <= weight).all()


@pytest.mark.parametrize("kind", ["random", "class"])
def test_fisher_noise_has_the_variance(kind):
    context = make_context(fisher, kind=kind)
    before = original()
    information = naive_fisher(before, context.images("retain"))
    model, _ = run("fisher", context=context, alpha=1e-5)
    drawn = {"body": [], "head": [], "gone": []}
    for name, p in before.named_parameters():
        last = name.startswith("net.head.")
        spread = fisher.variance(information[name], 1e-5, last)
        change = dict(model.named_parameters())[name].detach() - p.detach()
        if last and kind == "class":
            drawn["gone"].append(((change + p.detach())[2] / 1e-3**0.5).flatten())
            change, spread = change[[0, 1, 3]], spread[[0, 1, 3]]
        drawn["head" if last else "body"].append((change / spread.sqrt()).flatten())
    for part, values in drawn.items():
        if values:
            values = torch.cat(values)
            assert len(values) == {"body": 2816, "head": 9 * (3 if kind == "class" else 4), "gone": 9}[part]
            assert values.mean().item() == pytest.approx(0, abs=4 / math.sqrt(len(values)))
            assert values.std().item() == pytest.approx(1, abs=4 / math.sqrt(2 * len(values)))


def test_fisher_with_alpha_zero():
    """Identity where no class is gone; else only the row of that class moves."""
    kept, _ = run("fisher", BN, alpha=0.0, samples=2)
    assert same(kept.state_dict(), original(BN).state_dict())
    model, context = run("fisher", BN, "class", alpha=0.0, samples=2)
    assert fisher.absent_classes(context) == [2]
    before, after = original(BN).state_dict(), model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"net.fc.weight", "net.fc.bias"}
    rows = [0, 1, 3]
    assert torch.equal(before["net.fc.weight"][rows], after["net.fc.weight"][rows])
    assert after["net.fc.weight"][2].std() < 0.1


def test_fisher_leaves_a_frozen_head_alone():
    model, _ = run("fisher", BN, context=make_context(fisher, BN, "class", scope="first"), alpha=0.0, samples=2)
    assert same(model.state_dict(), original(BN).state_dict())


# influence


def dense_step(model, scope: str, damping: float) -> torch.Tensor:
    """(F + damping)⁻¹ v by a dense solver in float64, from one-image Jacobians of the logits."""
    model = copy.deepcopy(model).double()
    scopes.freeze(model, scope)
    trainable = [p for p in model.parameters() if p.requires_grad]
    retain, forget = images()["retain"], images()["forget"]

    def vector(found) -> torch.Tensor:
        return torch.cat([g.flatten() for g in found])

    def mean_gradient(found: ImageSet) -> torch.Tensor:
        rows = [
            vector(torch.autograd.grad(F.cross_entropy(model(pixels[None].double() / 255), label[None]), trainable))
            for pixels, label in zip(found.pixels, found.labels, strict=True)
        ]
        return torch.stack(rows).mean(0)

    matrix = 0
    for pixels in retain.pixels:
        logits = model(pixels[None].double() / 255)[0]
        p = logits.softmax(0).detach()
        jacobian = torch.stack([vector(torch.autograd.grad(z, trainable, retain_graph=True)) for z in logits])
        matrix = matrix + jacobian.T @ (p.diag() - p[:, None] * p) @ jacobian / len(retain)
    v = len(forget) / 24 * (mean_gradient(forget) - mean_gradient(retain))
    return torch.linalg.solve(matrix + damping * torch.eye(len(v), dtype=torch.float64), v)


@both
def test_influence_solves_the_damped_system(spec):
    context = make_context(influence, spec, scope="last")
    settings = {"alpha": 2.0, "damping": 0.2, "samples": None, "iterations": 100, "tolerance": 1e-5, "batch_size": 9}
    model, _ = run("influence", spec, context=context, **settings)
    step = [(new - old).flatten() for old, new in zip(original(spec).parameters(), model.parameters(), strict=True)]
    trainable = [p.requires_grad for p in model.parameters()]
    ours = torch.cat([s for s, moves in zip(step, trainable, strict=True) if moves]).detach()
    expected = 2 * dense_step(original(spec), "last", 0.2).float()
    assert (ours - expected).norm() < 1e-3 * expected.norm()
    assert forget_loss(model) > forget_loss(original(spec))
    assert same(dict(model.named_buffers()), dict(original(spec).named_buffers()))


def test_influence_predicts_retraining_of_a_convex_model():
    """With a linear model, where the theory holds, alpha 1 comes closer to retraining than 0.5 or 2."""
    found = images()
    x = {role: to_float(v.pixels).flatten(1) for role, v in {"all": everything(), **found}.items()}
    y = {role: v.labels for role, v in {"all": everything(), **found}.items()}

    def optimum(role: str) -> nn.Module:
        model = Linear()
        optimizer = torch.optim.LBFGS(
            model.parameters(), max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
        )

        def closure():
            optimizer.zero_grad()
            decay = 0.05 * sum(p.square().sum() for p in model.parameters())
            loss = F.cross_entropy(model(x[role].view(-1, 1, 8, 8)), y[role]) + decay
            loss.backward()
            return loss

        optimizer.step(closure)
        return model

    before, target = optimum("all"), optimum("retain")
    distance = {}
    for alpha in (0.0, 0.5, 1.0, 2.0):
        model = copy.deepcopy(before)
        settings = influence.Settings(alpha=alpha, damping=0.1, samples=None, tolerance=1e-6)
        influence.unlearn(model, make_context(influence), settings)
        pairs = zip(model.parameters(), target.parameters(), strict=True)
        distance[alpha] = sum((a - b).square().sum() for a, b in pairs)
    assert min(distance, key=distance.get) == 1.0
    assert distance[1.0] < 0.2 * distance[0.0]


class Linear(nn.Module):
    """A classifier whose loss is convex, with the attributes that a method reads."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        self.spec = LN

    def forward(self, x):
        return self.net(x)


def test_influence_is_linear_in_alpha_and_zero_for_equal_sets():
    still, _ = run("influence", BN, alpha=0.0, iterations=1)
    assert same(still.state_dict(), original(BN).state_dict())
    context = make_context(influence, BN)
    context.data["forget"] = context.data["retain"]
    equal, _ = run("influence", BN, context=context, iterations=2)
    close(equal, dict(original(BN).named_parameters()), rtol=0, atol=1e-6)
    one, _ = run("influence", BN, alpha=1.0, iterations=2)
    two, _ = run("influence", BN, alpha=2.0, iterations=2)
    for p, a, b in zip(original(BN).parameters(), one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(b - p, 2 * (a - p), rtol=1e-3, atol=1e-5)


def test_influence_subsamples_the_fisher_matrix_only():
    whole, _ = run("influence", BN, samples=None, iterations=2)
    part, _ = run("influence", BN, samples=3, iterations=2)
    large, _ = run("influence", BN, samples=1000, iterations=2)
    assert same(whole.state_dict(), large.state_dict())
    assert not same(whole.state_dict(), part.state_dict())


# boundary_expand


@pytest.mark.parametrize("scope", ["all", "first"])
def test_boundary_expand_equals_a_widened_layer(scope):
    context = make_context(boundary_expand, LN, scope=scope)
    settings = {"epochs": 2, "lr": 0.05, "batch_size": 4, "schedule": "cosine", "weight_decay": 0.01}
    model, _ = run("boundary_expand", context=context, **settings)

    wide = original()
    shadow = boundary_expand.shadow_of(wide.net.head, context.generator("shadow"))
    frozen = scope == "first"
    scopes.freeze(wide, scope)
    old_weight, old_bias = wide.net.head.weight.detach().clone(), wide.net.head.bias.detach().clone()
    wide.net.head = nn.Linear(8, 5)
    wide.net.head.weight.data = torch.cat([old_weight, shadow.weight.data])
    wide.net.head.bias.data = torch.cat([old_bias, shadow.bias.data])
    speed = {}
    for epoch, lr in ((1, 0.05), (2, 0.025)):
        for batch in context.batches("forget", epoch, 4):
            loss = -wide(batch.x).log_softmax(1)[:, 4].mean()
            trainable = {name: p for name, p in wide.named_parameters() if p.requires_grad}
            for (name, p), g in zip(
                trainable.items(), torch.autograd.grad(loss, list(trainable.values())), strict=True
            ):
                g = g + 0.01 * p.detach()
                if frozen and name.startswith("net.head"):
                    g[:4] = 0
                speed[name] = 0.9 * speed.get(name, 0) + g
                p.data -= lr * speed[name]
    rows = {"net.head.weight": 4, "net.head.bias": 4}
    close(model, {name: p.detach()[: rows.get(name)] for name, p in wide.named_parameters()})


def test_boundary_expand_raises_the_shadow_class_and_then_removes_it():
    model, context = original(BN), make_context(boundary_expand, BN)
    found = to_float(images()["forget"].pixels)
    before = model(found)
    shadow = boundary_expand.shadow_of(head(model), context.generator("shadow"))
    with boundary_expand.widened(model, shadow):
        wide = model(found)
        assert wide.shape == (8, 5)
        assert torch.equal(wide[:, :4], before)
    assert torch.equal(model(found), before)
    boundary_expand.unlearn(model, context, boundary_expand.Settings(epochs=3, lr=0.05))
    assert model(found).shape == (8, 4)
    assert not model.net.fc._forward_hooks
    losses = [row["loss"] for row in context.history]
    assert losses[-1] < losses[0]


def test_shadow_starts_xavier_normal():
    layer = nn.Linear(20, 29)
    weights = [boundary_expand.shadow_of(layer, torch.Generator().manual_seed(s)).weight for s in range(200)]
    assert torch.cat(weights).std().item() == pytest.approx(math.sqrt(2 / (20 + 30)), rel=0.05)
    assert boundary_expand.shadow_of(nn.Linear(4, 9), torch.Generator()).bias.item() == 0
    assert boundary_expand.shadow_of(nn.Linear(4, 9, bias=False), torch.Generator()).bias is None
    assert boundary_expand.shadow_of(nn.Conv2d(4, 9, 3, padding=1), torch.Generator()).weight.shape == (1, 4, 3, 3)


class Convolutional(nn.Module):
    """Class maps, then the mean over positions: the last layer is a convolution."""

    def __init__(self):
        super().__init__()
        self.body, self.maps = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.maps(self.body(x).relu()).mean((2, 3))


def wrapped(net: nn.Module):
    model = original()
    model.net = net
    return model


def test_boundary_expand_on_a_convolutional_head():
    model = wrapped(Convolutional())
    assert head(model) is model.net.maps
    deep = wrapped(nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 4)))
    assert head(deep) is deep.net[-1]
    before = copy.deepcopy(model).state_dict()
    boundary_expand.unlearn(model, make_context(boundary_expand), boundary_expand.Settings(lr=0.1))
    assert {n: v.shape for n, v in model.state_dict().items()} == {n: v.shape for n, v in before.items()}
    assert not same(model.state_dict(), before)


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050", "regnetx_002", "deit_tiny_patch16_224"])
def test_head_of_timm_models(name):
    model = create(Spec(name, 7, (3, 32, 32), {"img_size": 32} if "deit" in name else {}), 0).eval()
    shadow = boundary_expand.shadow_of(head(model), torch.Generator())
    with boundary_expand.widened(model, shadow):
        boundary_expand.check(model, torch.rand(2, 3, 32, 32))


def test_models_without_a_single_head_are_refused():
    distilled = Spec("deit_tiny_distilled_patch16_224", 4, (1, 8, 8), LN.args)
    with pytest.raises(ModelError, match="no single last layer"):
        head(create(distilled, 0))
    with pytest.raises(ModelError, match="no single last layer"):
        head(wrapped(nn.Sequential(nn.Flatten(), nn.Linear(64, 5))))

    class Sliced(nn.Sequential):
        def forward(self, x):
            return super().forward(x)[:, :4]

    class Summed(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + torch.zeros(4)

    for kind, message in ((Sliced, "stays"), (Summed, "must match")):
        model = wrapped(kind(nn.Flatten(), nn.Linear(64, 4)))
        with pytest.raises(ModelError, match=message):
            boundary_expand.unlearn(model, make_context(boundary_expand), boundary_expand.Settings())
        assert not model.net[1]._forward_hooks


# unsir


def test_unsir_noise_maximises_the_error():
    model, context = original(BN), make_context(unsir, BN, "class")
    settings = unsir.Settings(noise_images=6, noise_steps=20, noise_norm=0.001)
    before = model.state_dict()
    start = unsir.noise_images(model, context, 2, settings.model_copy(update={"noise_steps": 0}))
    noise = unsir.noise_images(model, context, 2, settings)
    label = torch.full((6,), 2)
    assert F.cross_entropy(model(noise), label) > F.cross_entropy(model(start), label) + 0.1
    assert same(before, original(BN).state_dict())
    assert not same({"": noise}, {"": unsir.noise_images(model, context, 1, settings)})


def test_unsir_first_noise_step_is_adam_on_the_penalised_error():
    model, context = original(), make_context(unsir, kind="class")
    settings = unsir.Settings(noise_images=5, noise_steps=1, noise_norm=0.01)
    noise = torch.randn(5, 1, 8, 8, generator=context.generator("noise 2")).requires_grad_()
    loss = 0.01 * sum((image**2).sum() for image in noise) / 5
    loss = loss + model(noise * 0.5 + 0.5).log_softmax(1)[:, 2].mean()
    (g,) = torch.autograd.grad(loss, noise)
    expected = (noise - 0.1 * g / (g.abs() + 1e-8)).detach() * 0.5 + 0.5
    torch.testing.assert_close(unsir.noise_images(model, context, 2, settings), expected, rtol=1e-4, atol=1e-4)


def test_unsir_all_noise_enters_with_its_own_class():
    context = make_context(unsir, kind="class")
    keep = context.data["retain"].labels != 0
    context.data["retain"] = context.data["retain"].select(keep)
    settings = unsir.Settings(noise_images=5, noise_steps=2, noise_repeats=3)
    noise = unsir.noise_set(original(), context, [0, 2], settings)
    assert len(noise) == 2 * 5 * 3
    by_class = {label: unsir.noise_images(original(), context, label, settings) for label in (0, 2)}
    for label, found in by_class.items():
        for image in found:
            equal = (noise.pixels == image).flatten(1).all(1)
            assert equal.sum() == 3
            assert (noise.labels[equal] == label).all()
    impair = list(mixture(context, context.images("retain"), noise, 1, 8, "impair"))
    y = torch.cat([batch.y for batch in impair])
    assert y.bincount().tolist() == [15, 6, 15, 6]


def test_unsir_impairs_and_then_repairs():
    context = make_context(unsir, kind="class")
    settings = {"noise_images": 4, "noise_steps": 2, "noise_repeats": 2, "images_per_class": 3, "batch_size": 8}
    optimise = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.05, "repair_lr": 0.02, "repair_epochs": 2}
    model, _ = run("unsir", context=context, **settings, **optimise)
    recipe = unsir.Settings(**settings, **optimise)
    some = context.images("retain").select(
        unsir.sample(context.images("retain").labels, 3, context.generator("retain sample"))
    )
    noise = unsir.noise_set(original(), context, [2], recipe)
    naive = original()
    descend(naive, mixture(context, some, noise, 1, 8, "impair"), entropy, 0.05)
    repair = replace(context, data={"repair": some})
    steps = [batch for epoch in (1, 2) for batch in repair.batches("repair", epoch, 8)]
    close(model, descend(naive, steps, entropy, 0.02))
    assert [row["epoch"] for row in context.history] == [1, 2, 3]
    assert [row["lr"] for row in context.history] == [0.05, 0.02, 0.02]


def test_unsir_samples_each_class():
    labels = torch.tensor([0, 1, 1, 0, 1, 3, 1])
    chosen = unsir.sample(labels, 2, torch.Generator().manual_seed(0))
    assert labels[chosen].bincount().tolist() == [2, 2, 0, 1]
    assert len(set(chosen.tolist())) == 5
    assert torch.equal(unsir.sample(labels, None, torch.Generator()), torch.arange(7))
    different = {tuple(unsir.sample(labels, 2, torch.Generator().manual_seed(s)).tolist()) for s in range(8)}
    assert len(different) > 1


def test_unsir_needs_a_forgotten_class():
    with pytest.raises(ValueError, match="whole classes"):
        run("unsir", kind="random")
    with pytest.raises(AccessError):
        make_context(unsir, kind="class").images("forget")


# mixture


def test_mixture_augments_images_but_not_what_was_made():
    context = make_context(natmu, augment={"crop": 2, "flip": True})
    found, made = context.images("retain"), context.images("forget")
    batches = list(mixture(context, found, made, 1, 7, "mix"))
    assert [len(batch.y) for batch in batches] == [6, 6, 6, 6]
    x, y = torch.cat([b.x for b in batches]), torch.cat([b.y for b in batches])
    assert y.bincount().tolist() == everything().labels.bincount().tolist()
    for pixels, label in zip(made.pixels, made.labels, strict=True):
        hit = (x == to_float(pixels)).flatten(1).all(1)
        assert hit.sum() == 1
        assert y[hit] == label
    untouched = [(x == to_float(pixels)).flatten(1).all(1).any().item() for pixels in found.pixels]
    assert sum(untouched) < 4
    floats = ImageSet(made.ids, to_float(made.pixels), made.labels)
    as_float = list(mixture(context, found, floats, 1, 7, "mix"))
    assert all(torch.equal(a.x, b.x) for a, b in zip(batches, as_float, strict=True))
    assert not torch.equal(y, torch.cat([b.y for b in mixture(context, found, made, 2, 7, "mix")]))


# natmu


def test_natmu_masks_are_the_official_ones():
    """Written out for 8 x 8: two ramps of four steps, up and down."""
    tent = [0, 0.25, 0.5, 0.75, 0.75, 0.5, 0.25, 0]
    for delta in (0.0, -0.19, 0.4):
        found = natmu.masks(8, 8, delta)
        for i in range(8):
            for j in range(8):
                expected = [tent[i], tent[j], 0.75 - tent[i], 0.75 - tent[j]]
                assert found[:, 0, i, j].tolist() == pytest.approx([min(max(v + delta, 0), 1) for v in expected])
    assert natmu.masks(6, 10, 0).shape == (4, 1, 6, 10)
    assert natmu.masks(5, 5, 1.0).eq(1).all()


def test_natmu_hybrids():
    context, model = make_context(natmu), original()
    made = natmu.hybrids(model, context, natmu.Settings(batch_size=3))
    forget, retain = context.images("forget"), context.images("retain")
    assert len(made) == 4 * len(forget)
    weight = natmu.masks(8, 8, -0.19)
    used = []
    for i in range(len(forget)):
        scores = model(to_float(forget.pixels[i : i + 1]))[0]
        others = sorted((c for c in range(4) if c != forget.labels[i]), key=lambda c: -scores[c].item())
        for k in range(4):
            row = 4 * i + k
            assert made.ids[row] == forget.ids[i]
            assert made.labels[row] == others[k % 3]
            blends = (weight[k] * forget.pixels[i].float() + (1 - weight[k]) * retain.pixels.float()).round()
            hit = (blends == made.pixels[row].float()).flatten(1).all(1).nonzero().flatten()
            assert len(hit) == 1
            assert retain.labels[hit] == made.labels[row]
            used.append(hit.item())
    for label in range(4):
        mine = [u for u in used if retain.labels[u] == label]
        size = int((retain.labels == label).sum())
        assert len(set(mine)) == min(size, len(mine))


def test_natmu_passes_over_classes_without_retain_images():
    context = make_context(natmu, kind="class")
    keep = (context.data["retain"].labels == 0) | (context.data["retain"].labels == 3)
    context.data["retain"] = context.data["retain"].select(keep)
    assert set(natmu.hybrids(original(), context, natmu.Settings()).labels.tolist()) == {0, 3}
    context.data["retain"] = images()["forget"].select(images()["forget"].labels == 2)
    with pytest.raises(ValueError, match="other than"):
        natmu.hybrids(original(), context, natmu.Settings())


def test_natmu_ranks_and_starts_again():
    logits = torch.tensor([[1.0, 3.0, -torch.inf, 2.0], [-torch.inf, 0.0, -torch.inf, -torch.inf]])
    assert natmu.ranked(logits, 4).tolist() == [[1, 3, 0, 1], [1, 1, 1, 1]]


def test_natmu_trains_on_retain_and_hybrids():
    context = make_context(natmu)
    settings = {"epochs": 2, "optimizer": "sgd", "lr": 0.05, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 16}
    model, _ = run("natmu", context=context, **settings)
    made = natmu.hybrids(original(), context, natmu.Settings())
    naive = original()
    for epoch, lr in ((1, 0.05), (2, 0.025)):
        descend(naive, mixture(context, context.images("retain"), made, epoch, 16, "retain+hybrids"), entropy, lr)
    close(model, dict(naive.named_parameters()))
