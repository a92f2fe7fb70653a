"""Runs an attack over an ascending grid of radii: per image, the smallest one that fools the model."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unlearn.io.progress import NOTHING, Progress
from unlearn.models.images import ImageSet, to_float

log = logging.getLogger("unlearn")

Attack = Callable[[Tensor, Tensor], Tensor]
Build = Callable[["Target", float], Mapping[str, Attack]]

LAYERS = ("linf", "l2")


class AttackError(RuntimeError):
    """An attack that breaks the rules of attacks."""


class Outcome(NamedTuple):
    """Per image: ``eps`` float64 [N], the smallest radius of the grid at which the attack succeeded, 0
    where nothing had to be done, NaN where it never did; ``predicted`` int64 [N], the class then
    predicted; ``distance`` float64 [N], the size of that perturbation in the attack's norm; ``by``, the
    member of the attack that found it, None where none did; ``members``, all of them."""

    eps: Tensor
    predicted: Tensor
    distance: Tensor
    by: list[str | None]
    checks: "Checks"
    members: tuple[str, ...] = ()


@dataclass
class Checks:
    """The worst over all perturbations tried: size / radius, excess over [0, 1], and whether all were numbers."""

    norm: float = 0.0
    range: float = 0.0
    finite: bool = True

    def merge(self, other: "Checks") -> "Checks":
        return Checks(max(self.norm, other.norm), max(self.range, other.range), self.finite and other.finite)


class Target(nn.Module):
    """The model as attacks must see it: float32 logits of ``classes`` classes, and input gradients that
    are contiguous (several attacks call ``view`` on them and raise for channels-last ones)."""

    def __init__(self, model: nn.Module, classes: int = 0):
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, x: Tensor) -> Tensor:
        return self.model(_ContiguousGradient.apply(x)).float()


class _ContiguousGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


class SharedNoise(TorchFunctionMode):
    """Within it all images of a batch get the same random numbers, drawn on the CPU.

    An attack draws noise for a whole batch, so an image's noise depends on its place there and on how
    many of its neighbours were fooled before: 0.5 points of robust accuracy at n = 200. With one draw
    for all, a result does not depend on the split into batches, nor the noise on the device.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (torch.rand, torch.randn):
            size = args or (kwargs["size"],)
            shape = tuple(size[0]) if isinstance(size[0], Sequence) else size
            drawn = self._shared(shape, lambda row: function(row, generator=self.generator))
            return drawn.to(**{key: kwargs[key] for key in ("device", "dtype") if kwargs.get(key) is not None})
        if function in (torch.rand_like, torch.randn_like):
            draw = torch.rand if function is torch.rand_like else torch.randn
            return self._shared(args[0].shape, lambda row: draw(row, generator=self.generator)).to(args[0])
        if function in (torch.Tensor.uniform_, torch.Tensor.normal_):
            tensor, *rest = args
            drawn = self._shared(
                tensor.shape, lambda row: function(torch.empty(row), *rest, generator=self.generator, **kwargs)
            )
            return tensor.copy_(drawn)
        return function(*args, **kwargs)

    @staticmethod
    def _shared(shape: Sequence[int], draw: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """Only [B, ·, ·, ·] is a batch; Square's single numbers and [C, 1, 1] are not."""
        return draw((1, *shape[1:])).expand(*shape).clone() if len(shape) == 4 else draw(shape)


def search(
    model: nn.Module,
    images: ImageSet,
    grid: Sequence[float],
    build: Build,
    seed: int,
    norm: str = "linf",
    aim: str = "fool",
    batch_size: int = 256,
    progress: Progress = NOTHING,
) -> Outcome:
    """Attack each image at the radii of the ascending ``grid`` until it is fooled.

    ``build(target, eps)`` gives the attack's members by name; each gets the images that withstood
    those before it and all smaller radii, so robust accuracy cannot rise with the radius. ``aim``:
    "fool", any class but the label from images classified correctly, or "recover", the label from
    images that are not. A perturbation that is no number, leaves [0, 1] or is larger than the radius
    never succeeds and shows in the checks. ``progress`` keeps what was found, batch by batch. Raises
    AttackError for what is no attack.
    """
    with _as_target(model) as target:
        clean = to_float(images.pixels).clone(memory_format=torch.contiguous_format)  # attacks call view
        predicted = _predict(target, clean, batch_size)
        eps = torch.full((len(images),), torch.nan, dtype=torch.float64, device=clean.device)
        distance, by, checks, members = eps.clone(), [None] * len(images), Checks(), ()
        tried = torch.zeros_like(predicted)  # by image, the last turn (a member at a radius) that it was in

        def succeeded(prediction: Tensor, label: Tensor) -> Tensor:
            return prediction != label if aim == "fool" else prediction == label

        done = succeeded(predicted, images.labels)
        eps[done] = distance[done] = 0.0
        phase, turn, found = progress.phase(), 0, (eps, distance, predicted, tried)
        if kept := progress.load(phase):
            for tensor, value in zip(found, kept["images"], strict=True):
                tensor.copy_(value)
            by, checks = kept["by"], Checks(*kept["checks"])

        def keep() -> None:
            progress.save(phase, {"images": list(found), "by": by, "checks": list(astuple(checks))})

        for radius in grid:
            attacks = build(target, radius)
            if not isinstance(attacks, Mapping) or not attacks or not all(map(callable, attacks.values())):
                raise AttackError("build must give members by name, functions (x, y) -> x")
            members = tuple(attacks)
            for name, attack in attacks.items():
                turn += 1
                for index in (eps.isnan() & (tried < turn)).nonzero().flatten().split(batch_size):
                    x, y = clean[index], images.labels[index]
                    if not len(index):
                        continue
                    try:
                        with _own_noise(seed, clean):
                            moved = _moved(name, attack, x, y)
                    except SystemExit:  # told to stop: an attack can take minutes on a batch
                        keep()
                        raise
                    with progress.loop():
                        sound, size, worst = _check(x, moved, radius, norm)
                        checks = checks.merge(worst)
                        after = _predict(target, moved, batch_size)
                        hit = sound & succeeded(after, y)
                        predicted[index[hit]] = after[hit]
                        distance[index[hit]] = size[hit]
                        eps[index[hit]] = radius
                        for i in index[hit].tolist():
                            by[i] = name
                        tried[index] = turn
                        if progress.due:
                            keep()
        return Outcome(eps, predicted, distance, by, checks, members)


def _moved(name: str, attack: Attack, x: Tensor, y: Tensor) -> Tensor:
    moved = attack(x, y)
    if not isinstance(moved, Tensor) or moved.shape != x.shape:
        raise AttackError(f"member {name!r} must give images of shape {tuple(x.shape)}")
    return moved.detach()


@contextmanager
def _own_noise(seed: int, x: Tensor) -> Iterator[None]:
    """Attacks reseed the global stream; it is given back as it was."""
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), SharedNoise(seed):
        torch.manual_seed(seed)
        yield


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


def _predict(target: Target, x: Tensor, batch_size: int) -> Tensor:
    with torch.no_grad():
        logits = torch.cat([target(part) for part in x.split(batch_size)])
    target.classes = logits.shape[1]
    return logits.argmax(1)


def _check(clean: Tensor, x: Tensor, radius: float, norm: str) -> tuple[Tensor, Tensor, Checks]:
    """Which perturbations are allowed [B], their sizes float64 [B], and the worst seen."""
    difference = (x - clean).double().flatten(1)
    size = difference.abs().amax(1) if norm == "linf" else difference.norm(dim=1)
    excess = torch.maximum(-x.flatten(1).amin(1), x.flatten(1).amax(1) - 1).clamp_min(0)
    finite = x.flatten(1).isfinite().all(1)
    sound = finite & (excess == 0) & (size <= radius * (1 + TOLERANCE))
    worst = Checks(*(v.nan_to_num(0).max().item() for v in (size / radius, excess)), bool(finite.all()))
    return sound, size, worst


TOLERANCE = 1e-3  # of a radius: float32 leaves less than this of it
