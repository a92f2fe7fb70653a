"""Runs an attack over an ascending grid of radii and records what the model then predicts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unlearn.images import ImageSet, to_float

Attack = Callable[[Tensor, Tensor], Tensor]


class AttackError(RuntimeError):
    """An attack left its bounds; its numbers would be wrong."""


class Outcome(NamedTuple):
    """For one radius: ``predicted`` int64 [N], and ``distance`` float64 [N], the L-infinity size
    of the perturbation that fooled the model (0 for an image that is wrong without any, the
    radius tried for one that withstood it)."""

    eps: float
    predicted: Tensor
    distance: Tensor


class Target(nn.Module):
    """The model as attacks must see it: float32 logits, and input gradients that are contiguous
    (several attacks call ``view`` on them and raise for channels-last ones)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(_ContiguousGradient.apply(x)).float()


class _ContiguousGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


def curve(
    model: nn.Module,
    images: ImageSet,
    grid: Sequence[float],
    build: Callable[[nn.Module, float], Attack],
    seed: int,
    batch_size: int = 256,
) -> Iterator[Outcome]:
    """Yield an Outcome per radius of the ascending ``grid``.

    Only images that are still classified correctly are attacked, first clean and then at each
    radius: an image once fooled is fooled within every larger ball, so the curve of robust
    accuracy cannot rise. Raises AttackError if a perturbation leaves its ball or [0, 1].
    """
    with _as_target(model) as target:
        clean = to_float(images.pixels)
        predicted = _predict(target, clean, batch_size)
        distance = torch.zeros(len(images), dtype=torch.float64, device=clean.device)
        for eps in grid:
            survivors = (predicted == images.labels).nonzero().flatten()
            distance[survivors] = eps
            attack = build(target, eps)
            for batch, index in enumerate(survivors.split(batch_size) if len(survivors) else ()):
                with torch.random.fork_rng(devices=_cuda_devices(clean)):
                    torch.manual_seed(seed + batch)
                    x = attack(clean[index], images.labels[index])
                moved = _check(clean[index], x, eps)
                after = _predict(target, x, batch_size)
                fooled = after != images.labels[index]
                predicted[index[fooled]] = after[fooled]
                distance[index[fooled]] = moved[fooled]
            yield Outcome(eps, predicted.clone(), distance.clone())


@contextmanager
def _as_target(model: nn.Module) -> Iterator[Target]:
    """The model in evaluation mode and without trainable parameters, for as long as it is attacked."""
    modes = {module: module.training for module in model.modules()}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        yield Target(model.eval().requires_grad_(False)).eval()
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in trainable:
            parameter.requires_grad_(True)


def _predict(target: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([target(part).argmax(1) for part in x.split(batch_size)])


def _check(clean: Tensor, x: Tensor, eps: float) -> Tensor:
    moved = (x - clean).abs().flatten(1).amax(1).double()
    if not x.isfinite().all() or x.min() < 0 or x.max() > 1 or moved.max() > eps * (1 + 1e-3):
        raise AttackError(f"adversarial images outside [0, 1] or further than {eps} away (moved {moved.max():.4g})")
    return moved


def _cuda_devices(x: Tensor) -> list[torch.device]:
    return [x.device] if x.is_cuda else []
