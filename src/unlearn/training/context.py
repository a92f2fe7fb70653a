"""The context of a method: images by role, random streams, a meter and a history.

Random streams derive from (seed, purpose, epoch) alone. So a run does not depend on other runs, and methods that take
the same steps reach the same weights, bit for bit.
"""

import hashlib
import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unlearn.io.progress import Progress
from unlearn.models.classifier import Classifier, Spec, create
from unlearn.models.cost_meter import Meter
from unlearn.models.images import ImageSet, to_float
from unlearn.models.weights import start
from unlearn.run import ALL

log = logging.getLogger("unlearn")


class AccessError(RuntimeError):
    """A method asked for images of a role that it does not declare in DATA_ROLES."""


class Batch(NamedTuple):
    """``x`` float32 [B, C, H, W] in [0, 1], augmented; ``y`` int64 [B]; the ``role`` of the images; and their ``rows``
    int64 [B] in the ImageSet of that role, None for a batch that a method made itself."""

    x: Tensor
    y: Tensor
    role: str
    rows: Tensor | None = None


@dataclass
class MethodContext:
    """What a method is given. ``data``: the images by role that it may read; ``scope``: the layers that it may change;
    ``init``: a file of weights in place of the random initialisation; ``progress``: the saved state from which a killed
    job continues."""

    seed: int
    spec: Spec
    data: dict[str, ImageSet]
    device: torch.device
    scope: str = ALL
    augment: dict[str, Any] = field(default_factory=lambda: {"crop": 0, "flip": False})
    precision: str = "float32"
    init: str | None = None
    meter: Meter | None = None
    progress: Progress = field(default_factory=Progress)
    history: list[dict[str, float]] = field(default_factory=list)

    def stream(self, purpose: str, epoch: int = 0) -> int:
        """The seed of a random stream."""
        text = f"{self.seed}/{purpose}/{epoch}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1

    def generator(self, purpose: str, epoch: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(self.stream(purpose, epoch))

    def images(self, role: str) -> ImageSet:
        """The images of a role. Raises AccessError for a role that the method does not declare."""
        if role not in self.data:
            raise AccessError(f"images of role {role!r} are not in the method's DATA_ROLES")
        return self.data[role]

    def batches(self, role: str, epoch: int, size: int) -> Iterator[Batch]:
        """All images of a role once, shuffled and augmented by the random streams of the epoch.

        No two batches differ by more than one image: a last batch of a few images would count as much as a full one.
        Three images left over at batch 64 cost a small ResNet two points of accuracy on digits. No batch has more than
        ``size`` images, except three at size 2, where one would be left over (``batch_count``).
        """
        images = self.images(role)
        order = torch.randperm(len(images), generator=self.generator(f"order {role}", epoch))
        generator = self.generator(f"augment {role}", epoch)
        for index in order.tensor_split(batch_count(len(images), size)):
            index = index.to(self.device)
            x = to_float(augment(images.pixels[index], generator, **self.augment))
            yield Batch(x, images.labels[index], role, index)

    def fresh_model(self, purpose: str = "init") -> Classifier:
        """A newly initialised classifier. Pretraining starts from the initialisation of the purpose "init", which may
        be a file of weights."""
        net = create(self.spec, self.stream(purpose))
        if self.init and purpose == "init":
            start(net, self.init)
        return net.to(self.device)

    def autocast(self) -> AbstractContextManager:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.precision))

    def step(self, phase: str, images: int = 0) -> AbstractContextManager:
        """Around one step, on so many ``images``, of a phase of the method; see Meter."""
        return self.meter.step(phase, images) if self.meter else nullcontext()


def batch_count(images: int, size: int) -> int:
    """Number of batches of at most ``size`` images. Batch norm has no statistics of one image, so no batch is of one
    unless ``size`` is, or there is only one image.

    >>> [batch_count(n, 2) for n in (1, 2, 3, 4)]
    [1, 1, 1, 2]
    """
    count = math.ceil(images / size)
    return min(count, max(images // 2, 1)) if size > 1 else count


def augment(pixels: Tensor, generator: torch.Generator, crop: int, flip: bool) -> Tensor:
    """Crop each zero-padded image [B, C, H, W] at random by up to ``crop`` pixels, and mirror half of the images."""
    count, _, height, width = pixels.shape
    if crop:
        dy, dx = torch.randint(2 * crop + 1, (2, count, 1), generator=generator).to(pixels.device)
        rows = torch.arange(height, device=pixels.device) + dy
        columns = torch.arange(width, device=pixels.device) + dx
        padded = torch.nn.functional.pad(pixels, [crop] * 4)
        samples = torch.arange(count, device=pixels.device)
        pixels = padded[samples[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if flip:
        mirrored = torch.rand(count, generator=generator).to(pixels.device) < 0.5
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    # Not contiguous(): a transposed tensor with one channel counts as contiguous and as channels-last at once, and then
    # the convolutions of oneDNN corrupt the heap (torch 2.15).
    return pixels.clone(memory_format=torch.contiguous_format)


def mixture(
    context: MethodContext, images: ImageSet, made: ImageSet, epoch: int, size: int, role: str
) -> Iterator[Batch]:
    """Batches of two sets, shuffled together by the random stream of the epoch: ``images``, augmented, and images that
    the method has ``made``, as they are. Each image of both sets occurs once.

    The pixels of ``made`` are uint8 like those of ``images``, or float32 in the scale of a batch. In a batch the images
    of the first set come first.
    """
    order = torch.randperm(len(images) + len(made), generator=context.generator(f"order {role}", epoch))
    generator = context.generator(f"augment {role}", epoch)
    for index in order.to(context.device).tensor_split(batch_count(len(order), size)):
        real, other = index[index < len(images)], index[index >= len(images)] - len(images)
        extra = made.pixels[other] if made.pixels.is_floating_point() else to_float(made.pixels[other])
        x = torch.cat([to_float(augment(images.pixels[real], generator, **context.augment)), extra])
        yield Batch(x, torch.cat([images.labels[real], made.labels[other]]), role)
