"""NegGrad+: descend on the retain set and ascend on the forget set in the same step.

Kurmanji et al. 2023, "Towards Unbounded Machine Unlearning" (arXiv:2302.09880), the baseline
defined there. Each step takes one batch of either set and minimises
alpha · CE(retain) - (1 - alpha) · CE(forget); an epoch is one pass over the retain set, so each
forgotten image is seen about |retain| / |forget| times as often as a retained one, which is why
alpha lies close to 1. Defaults are those of the official ``MIA_experiments.ipynb`` (CIFAR-10, plain
SGD at 0.01, 32 retain and 16 forget images a step). Official notebooks differ: ResNet-50 on
CIFAR-100 takes 128 and 64 images, VGG-16 128 and 128 at a learning rate of 1e-4; the small-scale one
has alpha 0.95, 10 epochs, batch norm in evaluation mode and a pull towards the original weights.
Others publish alpha 0.9 at a learning rate of 5e-4.

The two batches go through the model one after the other, as in the official code, so batch norm
normalises each by itself. The forget batches are those of passes 1, 2, … whatever the epoch:
with alpha 0 the steps are GA's, with alpha 1 they are CF's, bit for bit in models without batch
norm and dropout. ``itertools.cycle``, which the official code wraps around its loader, would
repeat the first pass: the same order, the same augmented pixels.
"""

import itertools
from collections.abc import Iterator

import torch

from unlearn.api.methods import (
    Batch,
    Classifier,
    Count,
    MethodContext,
    Natural,
    NonNegative,
    Share,
    Training,
    batch_count,
    cross_entropy,
    fit,
)

DATA_ROLES = ("retain", "forget")
TUNING_GRID = {
    "sgd": {"lr": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)},
    "adaptive": {"lr": (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)},
}


class Settings(Training):
    epochs: Count = 5
    momentum: Share = 0.0
    weight_decay: NonNegative = 0.0
    batch_size: Natural = 32
    forget_batch_size: Natural = 16
    alpha: Share = 0.9999


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Minimise alpha · CE on a retain batch - (1 - alpha) · CE on the next forget batch."""
    partner: Batch | None = None
    steps = batch_count(len(context.images("retain")), settings.batch_size)

    def batches(epoch: int) -> Iterator[Batch]:
        nonlocal partner
        forget = passes(context, "forget", settings.forget_batch_size, (epoch - 1) * steps)
        for retain in context.batches("retain", epoch, settings.batch_size):
            partner = next(forget)
            yield retain

    def loss(model: Classifier, retain: Batch) -> torch.Tensor:
        kept, lost = cross_entropy(model, retain), cross_entropy(model, partner)
        return settings.alpha * kept - (1 - settings.alpha) * lost

    fit(model, settings, context, batches, loss)


def passes(context: MethodContext, role: str, size: int, first: int) -> Iterator[Batch]:
    """Endless batches of a role from the ``first``, counted from 0: one pass after another, each
    freshly shuffled and augmented."""
    done, within = divmod(first, batch_count(len(context.images(role)), size))
    yield from itertools.islice(context.batches(role, done + 1, size), within, None)
    for number in itertools.count(done + 2):
        yield from context.batches(role, number, size)
