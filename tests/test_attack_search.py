"""Attacks find what there is to find, never more, and leave model and random streams as they were."""

import copy
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from conftest import image_set
from torch import nn

from unlearn.config import contracts, plugins
from unlearn.evaluation.attack_search import Outcome, SharedNoise, Target, search
from unlearn.models.images import ImageSet, to_float

GRID = (0.01, 0.03, 0.06, 0.1)
FINE = {"linf": (0.002, 0.005, 0.01, 0.02), "l2": (0.02, 0.05, 0.1, 0.2)}  # around the margins of ``linear``
LADDER = {"linf": (0.05, 0.15, 0.4), "l2": (0.2, 0.6, 1.5)}  # and of a small network
ATTACKS = plugins.names("attacks")
CHEAP = {
    "autoattack": {"steps": 8, "queries": 20, "targets": 2},
    "cascade": {"steps": 8, "target_steps": 4, "targets": 2},
    "pgd": {"steps": 8},
    "pgd_l2": {"steps": 8},
    "recover": {"steps": 8},
    "square": {"queries": 40},
}
# Square and noise need not find the boundary; FAB and targeted attacks need more classes than ``linear`` has.
BLIND = ("square", "noise")
every_attack = pytest.mark.parametrize("name", ATTACKS)
KINDS = ("single", "iterative", "ensemble", "black box", "noise")


class Linear(nn.Module):
    """Two classes, apart by w·x + b: the smallest step across is |w·x + b| over the dual norm of w."""

    def __init__(self, weight, bias):
        super().__init__()
        self.w, self.b = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x):
        score = x.flatten(1) @ self.w + self.b
        return torch.stack([torch.zeros_like(score), score], 1)


@pytest.fixture
def linear():
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(64, generator=draw)
    return Linear(weight, -0.5 * weight.sum())


@pytest.fixture
def grey():
    """Images so far from black and white that no perturbation of the grid is clipped."""
    pixels = torch.randint(100, 156, (30, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return ImageSet(torch.arange(30), pixels, torch.arange(30) % 2)


class Small(nn.Sequential):
    """A convolution, a batch norm and a head for four classes."""

    def __init__(self, classes=4, channels=1):
        super().__init__(nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, classes))


@cache
def learned(classes=4, channels=1):
    """A small network that has learned its images by heart, and so can be fooled on them; and the images."""
    images = image_set(16)
    images = ImageSet(images.ids, images.pixels.repeat(1, channels, 1, 1), images.labels % classes)
    torch.manual_seed(0)
    model = Small(classes, channels)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(to_float(images.pixels)), images.labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    assert (model.eval()(to_float(images.pixels)).argmax(1) == images.labels).float().mean() > 0.8
    return model, images


@pytest.fixture
def net():
    return copy.deepcopy(learned()[0])


@pytest.fixture
def images():
    return learned()[1]


def aim(name):
    return getattr(plugin(name), "AIM", "fool")


def seen(name, images, classes=4):
    """Labels as the attack needs them: right for one that fools, wrong for one that recovers."""
    return images if aim(name) == "fool" else ImageSet(images.ids, images.pixels, (images.labels + 1) % classes)


def plugin(name):
    return plugins.load("attacks", name)


def builder(name, **own):
    settings = plugins.settings("attacks", name, {**CHEAP.get(name, {}), **own})
    return lambda model, eps: plugin(name).build(model, eps, settings)


def attacked(model, images, name="fgsm", grid=GRID, seed=0, **more):
    return search(model, images, grid, builder(name), seed, plugin(name).THREAT_NORM, aim(name), **more)


@dataclass(frozen=True)
class Trial:
    """What an attack found on the learned network, which began in training mode; and what it changed."""

    found: Outcome
    state_kept: bool
    gradients_kept: bool
    modes_kept: bool
    streams_kept: bool


@cache
def trial(name, channels=1) -> Trial:
    model, images = learned(channels=channels)
    model = copy.deepcopy(model).train()
    next(module for module in model.modules() if not list(module.children())).eval()
    modes = [module.training for module in model.modules()]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.manual_seed(1)
    streams = torch.get_rng_state()
    found = attacked(model, seen(name, images), name, LADDER[plugin(name).THREAT_NORM])
    return Trial(
        found,
        state_kept=all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items()),
        gradients_kept=all(p.grad is None and p.requires_grad for p in model.parameters()),
        modes_kept=[module.training for module in model.modules()] == modes,
        streams_kept=torch.equal(torch.get_rng_state(), streams),
    )


@every_attack
def test_declares_what_gates_need(name):
    constants = contracts.declaration("attacks", name).constants
    assert constants["THREAT_NORM"] in FINE
    assert constants["CATEGORY"] in KINDS
    assert constants.get("AIM", "fool") in ("fool", "recover")


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in BLIND])
def test_finds_the_exact_boundary_of_a_linear_model(linear, grey, name):
    norm = plugin(name).THREAT_NORM
    with torch.no_grad():
        score = linear(to_float(grey.pixels))[:, 1]
        dual = linear.w.abs().sum() if norm == "linf" else linear.w.norm()
        smallest = (score.abs() / dual).double()
    right = (score > 0).long() == grey.labels
    done = ~right if aim(name) == "fool" else right
    assert 5 < done.sum() < 25
    found = attacked(linear, grey, name, FINE[norm])
    grid = torch.tensor(FINE[norm], dtype=torch.float64)
    clear = ((smallest[:, None] - grid).abs() > 0.02 * grid).all(1) & ~done
    place = torch.searchsorted(grid, smallest)
    expected = torch.cat([grid, torch.tensor([torch.nan])])[place]
    torch.testing.assert_close(found.eps[clear], expected[clear], equal_nan=True)
    assert expected[clear].unique().numel() > 2
    assert (found.eps[done] == 0).all()
    assert (found.distance[done] == 0).all()
    hit = found.eps > 0
    assert (found.distance[hit] <= found.eps[hit] * (1 + 1e-3)).all()
    assert (found.distance[hit & clear] >= smallest[hit & clear] - 1e-6).all()
    assert torch.equal(found.distance.isnan(), found.eps.isnan())
    assert [name is not None for name in found.by] == hit.tolist()
    assert torch.equal((found.predicted == grey.labels) == (aim(name) == "fool"), found.eps.isnan())


@every_attack
def test_perturbations_are_within_bounds(name):
    found = trial(name).found
    assert found.checks.norm <= 1 + 1e-3
    assert found.checks.range == 0
    assert found.checks.finite
    assert found.checks.norm > 0.5, "and use their room"
    assert not found.distance.requires_grad
    assert (found.eps > 0).sum() > 4


@every_attack
def test_leaves_the_model_and_the_global_stream_alone(name):
    """Weights, statistics, gradients, modes and trainability."""
    after = trial(name)
    assert after.state_kept
    assert after.gradients_kept
    assert after.modes_kept
    assert after.streams_kept


@every_attack
def test_order_batches_and_the_global_stream_mean_nothing(net, images, name):
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(2)
    shuffled = seen(name, images).select(order)
    assert_same(trial(name).found, attacked(net, shuffled, name, LADDER[plugin(name).THREAT_NORM], batch_size=5), order)


def test_only_survivors_are_attacked(linear, grey):
    sizes, grid = [], FINE["linf"]

    def build(model, eps):
        def attack(x, y):
            sizes.append(len(x))
            assert torch.equal(model(x).argmax(1), y), "these are still right"
            return x - eps * torch.where(y[:, None, None, None] == 1, 1, -1) * linear.w.sign().view(1, 1, 8, 8)

        return {"first": lambda x, y: x, "second": attack}

    found = search(linear, grey, grid, build, 0)
    survivors = [int((found.eps.isnan() | (found.eps > e)).sum()) for e in (0, *grid[:-1])]
    assert sizes == survivors
    assert set(found.by) == {None, "second"}


CHEATS = {
    "too far": (lambda x, eps: x + 1.01 * eps * torch.where(x < 0.5, 1, -1), "norm", 1.01),
    "one image too far": (lambda x, eps: torch.cat([x[:-1], (x[-1:] + 2 * eps)]), "norm", 2.0),
    "below black": (lambda x, eps: x - eps / 2, "range", 0.025),
    "no number": (lambda x, eps: torch.where(torch.arange(x.numel()).view_as(x) == 5, torch.nan, x), "finite", False),
}


@pytest.mark.parametrize(("cheat", "check", "value"), CHEATS.values(), ids=CHEATS)
def test_a_cheat_is_noted_and_fools_no_one(net, cheat, check, value):
    pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    dark = ImageSet(torch.arange(4), pixels, net.eval()(to_float(pixels)).argmax(1))

    class Touchy(nn.Module):
        def forward(self, x):
            right = nn.functional.one_hot(dark.labels[: len(x)], 4).float()
            return torch.where((x == 0).flatten(1).all(1)[:, None], right, -right)

    found = search(Touchy(), dark, [0.05], lambda model, eps: {"cheat": lambda x, y: cheat(x, eps)}, 0)
    assert getattr(found.checks, check) == pytest.approx(value, rel=1e-3)
    assert found.eps[-1 if check != "finite" else 0].isnan()


def assert_same(one, other, order=None):
    order = torch.arange(len(one.eps)) if order is None else order
    torch.testing.assert_close(one.eps[order], other.eps, equal_nan=True, rtol=0, atol=0)
    assert torch.equal(one.predicted[order], other.predicted)
    torch.testing.assert_close(one.distance[order], other.distance, equal_nan=True, rtol=1e-4, atol=1e-6)
    assert [one.by[i] for i in order.tolist()] == other.by


def test_noise_comes_from_the_seed(net, images):
    starts = []

    def build(model, eps):
        return {"none": lambda x, y: starts.append(torch.rand(3)) or x}

    images = ImageSet(images.ids, images.pixels, net.eval()(to_float(images.pixels)).argmax(1))
    for seed in (0, 0, 1):
        search(net, images, [0.1], build, seed)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@pytest.mark.parametrize(
    "draw",
    [
        lambda n: torch.rand(n, 1, 4, 4),
        lambda n: torch.rand([n, 1, 4, 4]),
        lambda n: torch.rand(size=(n, 1, 4, 4), device="cpu", dtype=torch.float64),
        lambda n: torch.randn(torch.Size([n, 1, 4, 4])),
        lambda n: torch.rand_like(torch.empty(n, 1, 4, 4)),
        lambda n: torch.empty(n, 1, 4, 4).uniform_(-3, 3),
        lambda n: torch.zeros_like(torch.empty(n, 1, 4, 4)).normal_(),
    ],
)
def test_images_share_their_noise(draw):
    with SharedNoise(0):
        noise = draw(5)
    assert (noise == noise[:1]).all()
    assert noise[0].unique().numel() == 16
    with SharedNoise(0):
        assert torch.equal(draw(2), noise[:2])


def test_what_is_no_batch_is_not_shared():
    with SharedNoise(0):
        assert torch.rand(3, 1, 1).unique().numel() == 3


def test_images_are_left_alone(net, images):
    before = images.pixels.clone()
    attacked(net, images, "pgd")
    assert torch.equal(images.pixels, before)


def test_no_images_is_no_error(net, make_images):
    assert len(attacked(net, make_images(0)).eps) == 0


@every_attack
def test_channels_last_changes_nothing(name):
    model, images = learned(channels=3)
    swapped = ImageSet(images.ids, images.pixels.to(memory_format=torch.channels_last), images.labels)
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    found = attacked(model, seen(name, swapped), name, LADDER[plugin(name).THREAT_NORM])
    torch.testing.assert_close(trial(name, channels=3).found.eps, found.eps, equal_nan=True)


@pytest.mark.parametrize("classes", [2, 3])
@every_attack
def test_any_number_of_classes(name, classes):
    model, images = learned(classes)
    grid = [4 * eps for eps in LADDER[plugin(name).THREAT_NORM]]
    assert (attacked(copy.deepcopy(model), seen(name, images, classes), name, grid).eps > 0).any()


class Scaled(nn.Module):
    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x):
        return self.model(x) * self.factor


@pytest.mark.slow
def test_large_logits_hide_from_cross_entropy_but_not_from_the_cascade(net, images):
    """The same decisions, so the same robustness."""
    grid = (0.02, 0.05, 0.1, 0.2, 0.4)
    masked = Scaled(net, 1e4)
    honest, scaled = (attacked(model, images, "cascade", grid) for model in (net, masked))
    assert (honest.eps > 0).double().mean() > 0.8
    same = (honest.eps == scaled.eps) | (honest.eps.isnan() & scaled.eps.isnan())
    assert same.double().mean() > 0.9
    fooled = [(attacked(model, images, "pgd", grid).eps > 0).double().mean() for model in (net, masked)]
    assert fooled[1] < 0.6 * fooled[0], "why cross-entropy attacks need a gate"
    assert {"apgd_t", "apgd_dlr"} & set(scaled.by)


def test_pgd_can_cross_its_ball():
    """The library's default step of 2/255 could not."""
    attack = builder("pgd", steps=10, relative_step=2.5)(nn.Linear(1, 2), 0.3)["pgd"]
    assert attack.alpha == pytest.approx(0.075)
    assert attack.steps * attack.alpha >= 2 * attack.eps
    assert attack.random_start


def test_the_cascade_has_different_losses():
    members = builder("cascade", targets=9)(Target(nn.Linear(1, 10), 10), 0.1)
    assert list(members) == ["fgsm", "apgd_ce", "apgd_dlr", "apgd_t"]
    assert [members[name].loss for name in ("apgd_ce", "apgd_dlr")] == ["ce", "dlr"]
    assert members["apgd_t"].n_target_classes == 9


def test_autoattack_runs_in_full():
    """The library's own runs 10 steps, and Square on a rescaled schedule."""
    plain = plugins.settings("attacks", "autoattack", {})
    members = plugin("autoattack").build(Target(nn.Linear(1, 10), 10), 0.1, plain)
    assert list(members) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert [members[name].steps for name in ("apgd_ce", "apgd_t", "fab_t")] == [100] * 3
    assert members["apgd_t"].n_target_classes == members["fab_t"].n_target_classes == 9
    assert (members["square"].n_queries, members["square"].rescale_schedule) == (5000, False)


def test_l2_steps_do_not_shrink_with_the_gradient():
    """The smaller the gradient, the shorter the library's own step: 1e-10 is large beside that of a sure model."""
    weight = torch.zeros(64, 2)
    weight[0, 1] = 1e-12
    attack = builder("pgd_l2", steps=4)(Target(lambda x: x.flatten(1) @ weight, 2), 0.3)["pgd_l2"]
    attack.set_device(torch.device("cpu"))
    attack.random_start = False
    moved = attack(torch.full((3, 1, 8, 8), 0.5), torch.ones(3, dtype=torch.long)) - 0.5
    torch.testing.assert_close(moved.flatten(1)[:, 0], torch.full((3,), -0.3))


def test_distance_is_how_far_the_image_was_changed(net, images):
    def build(model, eps):
        return {"half": lambda x, y: x + 0.5 * eps * torch.where(x < 0.5, 1, -1)}

    found = search(net, images, [0.4, 0.8, 1.0], build, 0)
    hit = found.eps > 0
    assert hit.any()
    torch.testing.assert_close(found.distance[hit], found.eps[hit] / 2, rtol=1e-5, atol=1e-6)


def test_target_gives_float32_logits_and_contiguous_gradients():
    """Several attacks call ``view`` on gradients."""

    class Transposed(nn.Module):
        def forward(self, x):
            return (x.permute(0, 2, 3, 1).contiguous() * torch.arange(3.0)).flatten(1).half()

    x = torch.rand(2, 3, 4, 4).requires_grad_(True)
    logits = Target(Transposed())(x)
    assert logits.dtype == torch.float32
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert gradient.is_contiguous()
    np.testing.assert_array_equal(gradient[:, :, 0, 0], [[0, 1, 2]] * 2)
