"""Attacks find what there is to find, never more, and leave model and random streams as they were."""

import numpy as np
import pytest
import torch
from torch import nn

from unlearn import registry
from unlearn.images import ImageSet, to_float
from unlearn.models import create
from unlearn.robustness import AttackError, Target, curve

GRID = (0.01, 0.03, 0.06, 0.1)
FINE = (0.002, 0.005, 0.01, 0.02)  # around the margins of ``linear``
ATTACKS = registry.names("attacks")
every_attack = pytest.mark.parametrize("name", ATTACKS)


class Linear(nn.Module):
    """Two classes, apart by w·x + b: the smallest L-infinity step across is |w·x + b| / ||w||₁."""

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
    pixels = torch.randint(100, 156, (60, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return ImageSet(torch.arange(60), pixels, torch.arange(60) % 2)


def builder(name, **own):
    plugin, settings = registry.load("attacks", name), registry.settings("attacks", name, own)
    return lambda model, eps: plugin.build(model, eps, settings)


def attacked(model, images, name="fgsm", grid=GRID, seed=0, **more):
    return list(curve(model, images, grid, builder(name), seed, **more))


@every_attack
def test_finds_the_exact_boundary_of_a_linear_model(linear, grey, name):
    with torch.no_grad():
        score = linear(to_float(grey.pixels))[:, 1]
        smallest = (score.abs() / linear.w.abs().sum()).double()
    right = (score > 0).long() == grey.labels
    assert 10 < right.sum() < 50
    fooled_before = ~right
    for outcome in attacked(linear, grey, name, FINE):
        clear = (smallest - outcome.eps).abs() > 1e-5
        fooled = outcome.predicted != grey.labels
        assert torch.equal(fooled[clear], (~right | (smallest < outcome.eps))[clear])
        assert (outcome.distance[~right] == 0).all()
        assert (outcome.distance[~fooled] == outcome.eps).all()
        new = fooled & ~fooled_before
        assert new.any()
        assert (outcome.distance[new] <= outcome.eps * (1 + 1e-3)).all()
        assert (outcome.distance[new & clear] >= smallest[new & clear] - 1e-6).all()
        fooled_before = fooled


@every_attack
def test_curve_cannot_rise(net, make_images, name):
    images, fooled = make_images(24), None
    net.train()
    net(to_float(images.pixels))
    for outcome in attacked(net, images, name, (0.01, 0.1, 0.3, 1.0)):
        now = outcome.predicted != images.labels
        assert fooled is None or (now | ~fooled).all(), "once fooled, fooled within every larger ball"
        fooled = now
    assert outcome.distance[fooled].max() <= 1


def test_only_survivors_are_attacked(linear, grey):
    sizes = []

    def build(model, eps):
        def attack(x, y):
            sizes.append(len(x))
            assert torch.equal(model(x).argmax(1), y), "these are still right"
            return x - eps * torch.where(y[:, None, None, None] == 1, 1, -1) * linear.w.sign().view(1, 1, 8, 8)

        return attack

    counts = [int((o.predicted == grey.labels).sum()) for o in curve(linear, grey, FINE, build, 0)]
    assert sizes[1:] == counts[:-1]
    assert sizes == sorted(sizes, reverse=True)


CHEATS = {
    "too far": lambda x, eps: x + 1.01 * eps * torch.where(x < 0.5, 1, -1),
    "one image too far": lambda x, eps: torch.cat([x[:-1], (x[-1:] + 2 * eps * torch.where(x[-1:] < 0.5, 1, -1))]),
    "below black": lambda x, eps: x - eps / 2,
    "no number": lambda x, eps: torch.where(torch.arange(x.numel()).view_as(x) == 5, torch.nan, x),
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS)
def test_a_cheating_attack_is_stopped(net, cheat):
    pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    dark = ImageSet(torch.arange(4), pixels, net.eval()(to_float(pixels)).argmax(1))
    with pytest.raises(AttackError, match=r"outside \[0, 1\] or further than 0.05"):
        list(curve(net, dark, [0.05], lambda model, eps: lambda x, y: cheat(x, eps), 0))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_honest_attack_passes(net, make_images, share):
    def build(model, eps):
        return lambda x, y: (x + share * eps).clamp(0, 1)

    assert len(list(curve(net, make_images(), GRID, build, 0))) == len(GRID)


@every_attack
def test_global_random_stream_is_left_alone_and_not_used(net, make_images, name):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(attacked(net, make_images(), name))
        assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.predicted, other.predicted)
        assert torch.equal(one.distance, other.distance)


def test_noise_comes_from_the_seed(net, make_images):
    starts = []

    def build(model, eps):
        return lambda x, y: starts.append(torch.rand(3)) or x

    for seed in (0, 0, 1):
        list(curve(net, make_images(), [0.1], build, seed))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@every_attack
def test_weights_statistics_and_gradients_are_left_alone(net, make_images, name):
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    attacked(net.train(), make_images(), name)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


@every_attack
def test_mode_and_trainability_are_given_back(net, make_images, name):
    attacked(net.train(), make_images(), name)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())


def test_images_are_left_alone(net, make_images):
    images = make_images()
    attacked(net, images, "pgd")
    assert torch.equal(images.pixels, make_images().pixels)


def learned(spec, images):
    """Running statistics of real batches, so that images are classified in several ways."""
    model = create(spec, 0).train()
    for part in images.pixels.split(8):
        model(to_float(part))
    return model.eval()


def test_order_and_batches_mean_nothing_without_noise(spec, make_images):
    """FGSM; a random start depends on an image's place in its batch."""
    images, order = make_images(24), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    model = learned(spec, images)
    images = ImageSet(images.ids, images.pixels, model(to_float(images.pixels)).argmax(1))
    plain = attacked(model, images)
    for mixed in (attacked(model, images.select(order)), attacked(model, images.select(order), batch_size=5)):
        for one, other in zip(plain, mixed, strict=True):
            assert torch.equal(one.predicted[order], other.predicted)
            torch.testing.assert_close(one.distance[order], other.distance)


def test_no_images_is_no_error(net, make_images):
    assert [len(o.predicted) for o in attacked(net, make_images(0))] == [0] * len(GRID)


def test_pgd_can_cross_its_ball():
    """The library's default step of 2/255 could not."""
    attack = builder("pgd", steps=10, relative_step=2.5)(nn.Linear(1, 2), 0.3)
    assert attack.alpha == pytest.approx(0.075)
    assert attack.steps * attack.alpha >= 2 * attack.eps
    assert attack.random_start


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
