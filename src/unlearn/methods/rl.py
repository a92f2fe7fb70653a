"""RL, random labelling: learn wrong labels for the forget set and right ones for the retain set.

Golatkar et al. 2020, "Eternal Sunshine of the Spotless Net" (arXiv:1911.04933). Three published
orders exist; each is a choice of settings, and none of them the paper's word.

``order: sequential`` (SalUn's code for CIFAR-10 since 2024, and the default): each epoch first all
forget batches, then all retain batches; ending on the retain set recovers accuracy and forgets less.
``order: mixed`` (SalUn's code for CIFAR-100, and at the time of its paper): both sets shuffled into one
pass. ``relabel: epoch`` draws the labels anew for every epoch (drawing them for every batch, as that
code does, is the same: an image comes once an epoch); ``relabel: once`` keeps the first draw
(amnesiac unlearning; the codes of SSD and Bad Teacher, mixed). A random label never is the true one,
as in SalUn's paper; its code draws from all classes and so teaches one label in ten correctly
(``exclude_true: false``).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch

from unlearn.api.methods import Batch, Classifier, MethodContext, Training, dataclass, fit

DATA_ROLES = ("retain", "forget")
TUNING_GRID = {
    "sgd": {"lr": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)},
    "adaptive": {"lr": (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)},
}


@dataclass(frozen=True)
class Settings(Training):
    order: Literal["sequential", "mixed"] = "sequential"
    relabel: Literal["epoch", "once"] = "epoch"
    exclude_true: bool = True


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Minimise the cross-entropy to random labels on D_f and to the true ones on D_r."""
    context, batches = relabelled(context, settings)
    fit(model, settings, context, batches)


def relabelled(context: MethodContext, settings: Settings) -> tuple[MethodContext, Callable[[int], Iterator[Batch]]]:
    """The job on the data in the order asked for, and its batches of an epoch."""
    forget, retain = context.images("forget"), context.images("retain")

    def wrong(epoch: int) -> torch.Tensor:
        generator = context.generator("random labels", 0 if settings.relabel == "once" else epoch)
        return random_labels(forget.labels, context.spec.classes, settings.exclude_true, generator)

    def sequential(epoch: int) -> Iterator[Batch]:
        labels = wrong(epoch)
        for batch in context.batches("forget", epoch, settings.batch_size):
            yield batch._replace(y=labels[batch.rows])
        yield from context.batches("retain", epoch, settings.batch_size)

    if settings.order == "sequential":
        return context, sequential
    both = replace(context, data={"mixed": forget + retain})

    def mixed(epoch: int) -> Iterator[Batch]:
        labels = torch.cat([wrong(epoch), retain.labels])
        for batch in both.batches("mixed", epoch, settings.batch_size):
            yield batch._replace(y=labels[batch.rows])

    return both, mixed


def random_labels(y: torch.Tensor, classes: int, exclude_true: bool, generator: torch.Generator) -> torch.Tensor:
    """Uniform labels int64 [B], over all classes or over those that differ from ``y``."""
    if not exclude_true:
        return torch.randint(classes, y.shape, generator=generator).to(y.device)
    offset = torch.randint(1, classes, y.shape, generator=generator).to(y.device)
    return (y + offset) % classes
