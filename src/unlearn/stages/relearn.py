"""relearn: how fast a run's model learns again what it forgot, from a few of the forgotten images.

The accuracy is that on the other forgotten images. As many retained images of each class are learned beside them: from
images of one class alone a model learns to answer with that class always. That is no memory of it, and it was so on
digits: ResNet-10 without class 3, at a tenth of the recipe's rate, took all test images of other classes for 3 after 16
steps, and after boundary shrink 56 % of them after two. Beside 45 retained images no model took more than 6 %.

All layers learn, whatever the scope of the run, at a fraction of the learning rate of the architecture's own recipe.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from unlearn.config.settings import Training
from unlearn.io import tables
from unlearn.io.failures import RunFailed
from unlearn.io.schema.relearning import RELEARNING
from unlearn.metrics.accuracy import accuracy
from unlearn.models import checkpoint, images
from unlearn.models.classifier import Classifier
from unlearn.models.device import prepare
from unlearn.models.images import ImageSet
from unlearn.run import Run
from unlearn.stages.predict import logits
from unlearn.training.loop import Diverged, make_optimizer

log = logging.getLogger("unlearn")

SEED = 0  # of the relearned images: the same for all runs of a forget set, so that they are paired
BATCH = 128  # images whose gradient is taken at once; no part of the result beyond rounding


@dataclass(frozen=True)
class RelearnSettings:
    """``images`` of each class and role, ``steps`` on all of them, and the optimiser's name, learning rate and
    ``momentum`` (of SGD)."""

    images: int
    steps: int
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: float
    momentum: float


def relearn(run: Run, model: str, dataset: str, split: str, out: str, settings: RelearnSettings, device: str) -> None:
    """Float32, no augmentation. The table is empty if no class has two forgotten images, one to relearn and one to
    test. Raises Diverged for logits that are not finite."""
    device = prepare(device)
    net = checkpoint.load(model, device)
    sets = images.by_role(dataset, split, ("forget", "retain"))
    (again, tested), (beside, _) = (divide(found, settings.images) for found in sets.values())
    log.info("relearns %d forgotten beside %d retained images, tests on %d", len(again), len(beside), len(tested))
    rows = list(curve(net, (again + beside).to(device), tested, settings, device)) if len(again) else []
    columns = {"step": [step for step, _ in rows], "accuracy": [share for _, share in rows], "n": len(tested)}
    learned = {"relearned": again.ids.tolist(), "beside": beside.ids.tolist()}
    tables.write(RELEARNING, out, columns, {"settings": asdict(settings), "device": str(device), **learned}, run)


def divide(found: ImageSet, count: int) -> tuple[ImageSet, ImageSet]:
    """``count`` images of each class, drawn at random, but at most half of what it has; and all others."""
    rng, labels = np.random.default_rng(SEED), found.labels.numpy()
    mixed = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    shown = torch.zeros(len(found), dtype=torch.bool)
    shown[np.concatenate([rows[: min(count, len(rows) // 2)] for rows in mixed])] = True
    return found.select(shown), found.select(~shown)


def recorded(steps: int) -> list[int]:
    """The steps after which accuracy is measured.

    >>> recorded(12)
    [0, 1, 2, 4, 8, 12]
    """
    return sorted({0, steps, *(2**i for i in range(steps.bit_length()))})


def curve(
    net: Classifier, shown: ImageSet, tested: ImageSet, settings: RelearnSettings, device: torch.device
) -> Iterator[tuple[int, float]]:
    """(step, accuracy on ``tested`` after it), while ``net`` learns ``shown`` in place.

    The model stays in evaluation mode. In training mode running statistics would follow a few images: on class 3 of
    digits alone, which ResNet-10 knew, its accuracy fell from 1.00 to 0.93 in 8 steps. Also, the gradient is then a sum
    over images, taken in parts of any size, and no random numbers (dropout) play a part.
    """
    recipe = Training(optimizer=settings.optimizer, lr=settings.lr, momentum=settings.momentum, weight_decay=0.0)
    optimizer = make_optimizer(net.eval(), recipe)
    labels, marks = tested.labels.numpy(), recorded(settings.steps)
    for step in range(settings.steps + 1):
        if step:
            optimizer.zero_grad()
            for pixels, truth in zip(shown.pixels.split(BATCH), shown.labels.split(BATCH), strict=True):
                (F.cross_entropy(net(images.to_float(pixels)), truth, reduction="sum") / len(shown)).backward()
            optimizer.step()
        if step in marks:
            try:
                yield step, accuracy(labels, logits(net, tested, device))
            except RunFailed as error:
                reason = f"relearning: after step {step} at learning rate {settings.lr:g} {error}"
                raise Diverged(reason) from None
