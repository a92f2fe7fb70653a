"""Ascent and repair: raise the loss of the forget set, lower the loss of the retain set.

Replace this text by your method's: what it does, its source (authors, year, title, arXiv number), which of its defaults
are published ones, and where this code differs from the published code. It becomes the method's entry in
docs/methods.md; the first paragraph is one line.
"""

from collections.abc import Iterator

from torch import Tensor

from unlearn.api.methods import (
    Batch,
    Classifier,
    Count,
    MethodContext,
    NonNegative,
    Training,
    cross_entropy,
    dataclass,
    fit,
)

# The images that the method may read: "retain", "forget", or both. Asking for others stops the run.
DATA_ROLES = ("retain", "forget")

# What `tune: true` tries: seven values of one setting, per family of optimizers (adam and adamw are adaptive).
TUNING_GRID = {
    "sgd": {"lr": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)},
    "adaptive": {"lr": (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3)},
}


@dataclass(frozen=True)
class Settings(Training):  # epochs, lr, batch_size, optimizer, momentum, weight_decay, schedule and warmup
    epochs: Count = 5
    lr: NonNegative = 1e-3
    ascent: NonNegative = 0.1


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Each epoch is a pass over the forget set, then one over the retain set."""

    def batches(epoch: int) -> Iterator[Batch]:
        yield from context.batches("forget", epoch, settings.batch_size)
        yield from context.batches("retain", epoch, settings.batch_size)

    def loss(model: Classifier, batch: Batch) -> Tensor:
        value = cross_entropy(model, batch)
        return -settings.ascent * value if batch.role == "forget" else value

    fit(model, settings, context, batches, loss)
