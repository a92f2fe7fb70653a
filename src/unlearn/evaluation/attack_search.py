"""The smallest radius at which an attack fools the model, for each image: a search over ascending radii."""

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

TOLERANCE = 1e-3  # relative to the radius; rounding to float32 stays below it


class AttackError(RuntimeError):
    """A plug-in whose members are not attacks."""


class Outcome(NamedTuple):
    """For each image: ``eps`` float64 [N], the smallest radius at which the attack succeeded, 0 where no attack was
    needed, NaN where none succeeded; ``predicted`` int64 [N], the class that the model then predicts; ``distance``
    float64 [N], the size of the perturbation in the threat norm; ``by``, the member of the attack that succeeded, or
    None. ``members``: the names of all members."""

    eps: Tensor
    predicted: Tensor
    distance: Tensor
    by: list[str | None]
    checks: "Checks"
    members: tuple[str, ...] = ()


@dataclass
class Checks:
    """The worst of all perturbations: size / radius, excess over [0, 1], and whether all values were finite."""

    norm: float = 0.0
    range: float = 0.0
    finite: bool = True

    def merge(self, other: "Checks") -> "Checks":
        return Checks(max(self.norm, other.norm), max(self.range, other.range), self.finite and other.finite)


class Target(nn.Module):
    """The model as an attack sees it: it gives float32 logits of ``classes`` classes and contiguous input gradients.
    Several attacks call ``view`` on the gradients, which raises for channels-last ones."""

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
    """A context in which all images of a batch get the same random numbers, drawn on the CPU.

    An attack draws noise for a whole batch. So the noise of an image would depend on its place in the batch and on how
    many images were fooled before, which changes robust accuracy by 0.5 points at n = 200. With one draw for all images
    the result does not depend on the batches, and the noise does not depend on the device.
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
        """Only a shape [B, ·, ·, ·] is a batch. Square also draws single numbers and [C, 1, 1]."""
        return draw((1, *shape[1:])).expand(*shape).clone() if len(shape) == 4 else draw(shape)


def search(
    model: nn.Module,
    images: ImageSet,
    radii: Sequence[float],
    build: Build,
    seed: int,
    norm: str = "linf",
    aim: str = "fool",
    batch_size: int = 256,
    progress: Progress = NOTHING,
) -> Outcome:
    """Attack each image at ascending ``radii`` until the attack succeeds.

    ``build(target, eps)`` gives the members of the attack by name. Each member gets the images that withstood the
    members before it and all smaller radii, so robust accuracy cannot rise with the radius. ``aim``: "fool" looks for
    any class but the label, for images that the model classifies correctly; "recover" looks for the label, for images
    that it does not. ``norm``: the threat norm. A perturbation that is not finite, leaves [0, 1] or is larger than the
    radius never succeeds; the checks of the Outcome show it. ``progress`` saves the state after a batch. Raises
    AttackError for a ``build`` that gives no attacks, and for a member that does not give images.
    """
    with _as_target(model) as target:
        clean = to_float(images.pixels).clone(memory_format=torch.contiguous_format)  # some attacks call view
        predicted = _predict(target, clean, batch_size)
        eps = torch.full((len(images),), torch.nan, dtype=torch.float64, device=clean.device)
        distance, by, checks, members = eps.clone(), [None] * len(images), Checks(), ()
        tried = torch.zeros_like(predicted)  # the last turn (a member at a radius) of each image

        def succeeded(prediction: Tensor, label: Tensor) -> Tensor:
            return prediction != label if aim == "fool" else prediction == label

        done = succeeded(predicted, images.labels)
        eps[done] = distance[done] = 0.0
        phase, turn, by_image = progress.phase(), 0, (eps, distance, predicted, tried)
        if kept := progress.load(phase):
            for tensor, value in zip(by_image, kept["images"], strict=True):
                tensor.copy_(value)
            by, checks = kept["by"], Checks(*kept["checks"])

        def keep() -> None:
            progress.save(phase, {"images": list(by_image), "by": by, "checks": list(astuple(checks))})

        for radius in radii:
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
                            perturbed = _perturbed(name, attack, x, y)
                    except SystemExit:  # told to stop; an attack may take minutes for a batch
                        keep()
                        raise
                    with progress.loop():
                        sound, size, worst = _check(x, perturbed, radius, norm)
                        checks = checks.merge(worst)
                        after = _predict(target, perturbed, batch_size)
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


def _perturbed(name: str, attack: Attack, x: Tensor, y: Tensor) -> Tensor:
    perturbed = attack(x, y)
    if not isinstance(perturbed, Tensor) or perturbed.shape != x.shape:
        raise AttackError(f"member {name!r} must give images of shape {tuple(x.shape)}")
    return perturbed.detach()


@contextmanager
def _own_noise(seed: int, x: Tensor) -> Iterator[None]:
    """A context for one attack: shared noise, and a global random stream that is restored afterwards."""
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), SharedNoise(seed):
        torch.manual_seed(seed)
        yield


@contextmanager
def _as_target(model: nn.Module) -> Iterator[Target]:
    """The model in evaluation mode and without trainable parameters; both are restored afterwards."""
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
    """Which perturbations are allowed, bool [B], their sizes, float64 [B], and the worst of them."""
    difference = (x - clean).double().flatten(1)
    size = difference.abs().amax(1) if norm == "linf" else difference.norm(dim=1)
    excess = torch.maximum(-x.flatten(1).amin(1), x.flatten(1).amax(1) - 1).clamp_min(0)
    finite = x.flatten(1).isfinite().all(1)
    sound = finite & (excess == 0) & (size <= radius * (1 + TOLERANCE))
    worst = Checks(*(v.nan_to_num(0).max().item() for v in (size / radius, excess)), bool(finite.all()))
    return sound, size, worst
