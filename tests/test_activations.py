"""The spread of activations per class, against NumPy on stored activations."""

import numpy as np
import pytest
import timm.layers
import torch
from torch import nn

from unlearn.evaluation.activations import Moments, channels_last, normalization_layers, spreads
from unlearn.metrics.fairness_gap import gap
from unlearn.models.classifier import create
from unlearn.models.images import ImageSet, to_float


@pytest.fixture
def probed(net):
    """A network whose batch norms have seen images."""
    net.train()
    net(torch.rand(32, *net.spec.shape, generator=torch.Generator().manual_seed(9)))
    return net.eval()


def stored(model, images, at):
    """Layer → activations [images, positions, channels] in float64, in order of execution."""
    found, handles = {}, []
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):

            def keep(module, inputs, output, name=name):
                x = (output if at == "output" else inputs[0]).detach().clone().double().numpy()
                x = x.transpose(0, 2, 3, 1) if isinstance(module, nn.BatchNorm2d) else x
                found[name.removeprefix("net.")] = x.reshape(len(x), -1, x.shape[-1])

            handles.append(module.register_forward_hook(keep))
    model(to_float(images.pixels))
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("sigma", ["channel", "pooled"])
@pytest.mark.parametrize("at", ["output", "input"])
def test_by_numpy(probed, make_images, at, sigma):
    images = make_images(22)
    expected = stored(probed, images, at)
    rows = list(spreads(probed, images, at, sigma))
    assert list(dict.fromkeys((row.depth, row.layer) for row in rows)) == list(enumerate(expected))
    assert len(rows) == 4 * len(expected)
    for row in rows:
        x = expected[row.layer][images.labels == row.label]
        assert row.count == len(x)
        assert row.mean == pytest.approx(x.mean(), rel=1e-6, abs=1e-6)
        spread = x.std() if sigma == "pooled" else x.reshape(-1, x.shape[-1]).std(0).mean()
        assert row.sigma == pytest.approx(spread, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("sigma", ["channel", "pooled"])
def test_channels_on_request(probed, make_images, sigma):
    images = make_images(22)
    expected = stored(probed, images, "output")
    rows = list(spreads(probed, images, "output", sigma, channels=True))
    assert [row for row in rows if row.channel is None] == list(spreads(probed, images, "output", sigma))
    detail = {(row.layer, row.label, row.channel): row for row in rows if row.channel is not None}
    assert len(detail) == 4 * sum(x.shape[-1] for x in expected.values())
    for (layer, label, channel), row in detail.items():
        x = expected[layer][images.labels == label][..., channel]
        assert row.count == len(x)
        assert (row.mean, row.sigma) == pytest.approx((x.mean(), x.std()), rel=1e-5, abs=1e-6)


LAYERS = [nn.BatchNorm2d(6), nn.GroupNorm(2, 6), timm.layers.LayerNorm2d(6), timm.layers.RmsNorm2d(6), nn.RMSNorm(6)]


@pytest.mark.parametrize("norm", LAYERS, ids=lambda norm: type(norm).__name__)
def test_every_norm_by_numpy(make_images, norm):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 6, 3), norm

        def forward(self, x):
            x = self.conv(x)
            return self.norm(x.movedim(1, -1)).movedim(-1, 1) if isinstance(norm, nn.RMSNorm) else self.norm(x)

    torch.manual_seed(0)
    net, images = Net().eval(), make_images(22)
    with torch.no_grad():
        norm.weight.normal_()
        x = net(to_float(images.pixels)).double().numpy().transpose(0, 2, 3, 1)
    rows = list(spreads(net, images, "output", "channel"))
    assert len(rows) == 4
    for row in rows:
        of_class = x[images.labels == row.label].reshape(-1, 6)
        assert row.sigma == pytest.approx(of_class.std(0).mean(), rel=1e-5)


def test_planted_spreads_are_found():
    """Pixels of class c are 128 ± its own amplitude, so sigma is amplitude / 255 behind a norm that does nothing."""
    amplitudes = [10, 40, 25]
    labels = torch.arange(3).repeat(4)
    sign = torch.tensor([1, -1]).repeat(32).view(1, 1, 8, 8)
    pixels = (128 + sign * torch.tensor(amplitudes)[labels].view(-1, 1, 1, 1)).to(torch.uint8)
    norm = nn.BatchNorm2d(1, eps=0.0)
    rows = list(spreads(nn.Sequential(norm), ImageSet(torch.arange(12), pixels, labels), "output", "channel"))
    assert [row.sigma for row in rows] == pytest.approx([a / 255 for a in amplitudes], rel=1e-5)
    assert gap(np.array([row.sigma for row in rows])) == pytest.approx(30 / 255, rel=1e-5)


@pytest.mark.parametrize("sigma", ["channel", "pooled"])
def test_classes_with_the_same_images_have_no_gap(probed, make_images, sigma):
    once = make_images(8)
    twice = ImageSet(torch.arange(16), once.pixels.repeat(2, 1, 1, 1), torch.arange(2).repeat_interleave(8))
    rows = list(spreads(probed, twice, "output", sigma))
    for layer in {row.layer for row in rows}:
        of_layer = np.array([row.sigma for row in rows if row.layer == layer])
        assert len(of_layer) == 2
        assert gap(of_layer) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 22])
def test_batches_mean_nothing(probed, make_images, batch_size):
    one, other = (
        list(spreads(probed, make_images(22), "output", "channel", batch_size=size)) for size in (batch_size, 256)
    )
    for a, b in zip(one, other, strict=True):
        assert a[:4] == b[:4]
        assert a[4:6] == pytest.approx(b[4:6], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_mean_large_against_the_spread_does_not_cancel(pooled):
    """The difference of the plain sums of squares would be off by 100 % here."""
    x = 1e8 + np.random.default_rng(0).normal(size=(50, 4, 3))
    moments = Moments(4)
    for part in np.split(x, 5):
        moments.add(torch.from_numpy(part), torch.zeros(10, dtype=torch.long))
    count, mean, sigma = moments.by_class(pooled)[0]
    assert count == 50
    assert mean == pytest.approx(x.mean(), rel=1e-12)
    assert sigma == pytest.approx(x.std() if pooled else x.reshape(-1, 3).std(0).mean(), rel=1e-6)


def test_classes_may_be_spread_over_batches():
    """Here class 1 is absent from the first batch, and class 0 from the last."""
    x = np.random.default_rng(0).normal(size=(9, 2, 3))
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    moments = Moments(4)
    for part in (slice(0, 3), slice(3, 6), slice(6, 9)):
        moments.add(torch.from_numpy(x[part]), torch.from_numpy(labels[part]))
    for label, (count, _, sigma) in moments.by_class(pooled=False).items():
        of_class = x[labels == label].reshape(-1, 3)
        assert count == (labels == label).sum()
        assert sigma == pytest.approx(of_class.std(0).mean())


@pytest.mark.parametrize(
    ("module", "shape", "channels"),
    [
        (nn.BatchNorm2d(3), (2, 3, 4, 5), 3),
        (nn.BatchNorm1d(3), (2, 3), 3),
        (nn.GroupNorm(1, 3), (2, 3, 4, 5), 3),
        (nn.LayerNorm(3), (2, 7, 3), 3),
        (nn.RMSNorm(3), (2, 7, 3), 3),
        (timm.layers.LayerNorm2d(3), (2, 3, 4, 5), 3),
        (timm.layers.RmsNorm2d(3), (2, 3, 4, 5), 3),
        (timm.layers.BatchNormAct2d(3), (2, 3, 4, 5), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_norm_is_found_and_knows_its_channels(module, shape, channels):
    assert list(normalization_layers(nn.Sequential(module))) == ["0"]
    x = torch.rand(shape)
    found = channels_last(module, x)
    assert found.shape == (shape[0], x[0].numel() // channels, channels)
    moved = x if shape[-1] == channels and len(shape) == 3 else x.movedim(1, -1)
    assert torch.equal(found, moved.reshape(found.shape))


def test_a_model_without_norms_has_no_spreads(make_images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    assert list(spreads(model, make_images(), "output", "channel")) == []


def test_leaves_the_model_as_it_was(spec, make_images):
    model = create(spec, 0).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    list(spreads(model, make_images(), "output", "channel"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_go_even_when_the_model_fails(net):
    wrong = ImageSet(torch.arange(2), torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.arange(2))
    with pytest.raises((RuntimeError, AssertionError)):
        list(spreads(net, wrong, "output", "channel"))
    assert not any(module._forward_hooks for module in net.modules())
