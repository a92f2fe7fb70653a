"""Per-class spread of the activations of every normalization layer, in one pass.

The raw material of the fairness-gap (Tran & Woo 2025): sigma_c^l, the standard deviation of layer
l's activations over the images of class c. The source leaves the details open; each is a config
key here, and docs/architecture.md argues the defaults.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import timm.layers as layers
import torch
from torch import Tensor, nn

from unlearn.models.images import ImageSet, to_float
from unlearn.models.normalization import ProbeError, normalization_layers

LAST = (nn.LayerNorm, nn.RMSNorm, layers.RmsNorm, layers.SimpleNorm)


@dataclass(frozen=True)
class ProbeSettings:
    """The open choices of the fairness-gap (docs/metrics.md): ``at`` output or input of a layer, ``sigma``
    channel or pooled, whether ``channels`` are stored, and the ``roles`` of the images."""

    at: str
    sigma: str
    channels: bool
    roles: Sequence[str]


class Spread(NamedTuple):
    """One layer and class, or one ``channel`` of it: ``count`` images, mean and (population) standard deviation."""

    layer: str
    depth: int
    label: int
    count: int
    mean: float
    sigma: float
    channel: int | None = None


@torch.no_grad()
def spreads(
    model: nn.Module, images: ImageSet, at: str, sigma: str, channels: bool = False, batch_size: int = 256
) -> Iterator[Spread]:
    """Yield a Spread per normalization layer and class present, layers in order of execution; with
    ``channels`` also one per channel.

    ``at``: "output" or "input" of the layer; ``sigma``: "channel" (over images and positions per
    channel, then the mean over channels) or "pooled" (over everything at once). Evaluation mode,
    sums in float64.
    """
    model.eval()
    moments: dict[str, Moments] = {}
    norms = normalization_layers(model)
    labels, classes = images.labels[:0], int(images.labels.max()) + 1

    def hook(name: str):
        def observe(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            x = output if at == "output" else inputs[0]
            moments.setdefault(name, Moments(classes)).add(
                by_image(channels_last(module, x), len(labels), name), labels
            )

        return observe

    handles = [module.register_forward_hook(hook(name)) for name, module in norms.items()]
    try:
        for index in torch.arange(len(images), device=images.pixels.device).split(batch_size):
            labels = images.labels[index]
            model(to_float(images.pixels[index]))
    finally:
        for handle in handles:
            handle.remove()
    for depth, (name, found) in enumerate(moments.items()):
        layer = name.removeprefix("net.")
        for label, (count, mean, spread) in found.by_class(pooled=sigma == "pooled").items():
            yield Spread(layer, depth, label, count, mean, spread)
        for label, (count, means, spreads_) in found.by_channel().items() if channels else ():
            for channel, (mean, spread) in enumerate(zip(means.tolist(), spreads_.tolist(), strict=True)):
                yield Spread(layer, depth, label, count, mean, spread, channel)


def channels_last(module: nn.Module, x: Tensor) -> Tensor:
    """[B, positions, channels] of any layer's activations.

    Layer and RMS norms have channels last, batch and group norms at dimension 1, as have timm's
    layer norms for [B, C, H, W], whose names end in 2d.
    """
    if not isinstance(module, LAST) or "2d" in type(module).__name__:
        x = x.movedim(1, -1)
    return x.reshape(len(x), -1, x.shape[-1])


def by_image(x: Tensor, count: int, name: str) -> Tensor:
    """[images, positions, channels] also where a hybrid folds patches into the batch, image by image
    (MobileViT). Raises ProbeError if the batch is no multiple of the images."""
    if len(x) % count:
        raise ProbeError(f"layer {name!r} has a batch of {len(x)} for {count} images")
    return x.reshape(count, -1, x.shape[-1])


class Moments:
    """Sums of x - k and (x - k)² per class and channel, in float64.

    The shift k is the first batch's mean: without it the difference of the two sums cancels where
    the mean is large against the spread. Nothing here waits for the device: with ten classes, twenty
    layers and forty batches, asking for each class's count took a shared GPU a minute.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.shift: Tensor | None = None

    def add(self, x: Tensor, labels: Tensor) -> None:
        """``x`` [B, positions, channels], ``labels`` [B]."""
        x = x.double()
        if self.shift is None:
            self.shift = x.mean((0, 1))
            self.images, self.values = x.new_zeros(2, self.classes)
            self.first, self.second = x.new_zeros(2, self.classes, x.shape[2])
        x = x - self.shift
        of_class = nn.functional.one_hot(labels, self.classes).double()
        self.images += of_class.sum(0)
        self.values += of_class.sum(0) * x.shape[1]
        self.first += of_class.T @ x.sum(1)
        self.second += of_class.T @ x.square().sum(1)

    def by_channel(self) -> dict[int, tuple[int, Tensor, Tensor]]:
        """Class → (images, mean [channels], standard deviation [channels])."""
        mean = self.first / self.values[:, None]
        spread = (self.second / self.values[:, None] - mean.square()).clamp_min(0).sqrt()
        counts = self.images.int().tolist()
        return {c: (n, mean[c] + self.shift, spread[c]) for c, n in enumerate(counts) if n}

    def by_class(self, pooled: bool) -> dict[int, tuple[int, float, float]]:
        """Class → (images, mean, standard deviation)."""
        found = {}
        for label, (images, mean, sigma) in self.by_channel().items():
            if pooled:
                sigma = (sigma.square().mean() + mean.var(unbiased=False)).sqrt()
            found[label] = images, mean.mean().item(), sigma.mean().item()
        return found
