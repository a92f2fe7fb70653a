"""NatMU: blend each forgotten image with retained ones, and learn the labels of the latter.

He et al. 2024, "Towards Natural Machine Unlearning" (arXiv:2405.15495). A forgotten image is paired
with four retain images, one of each of the four classes that the original model finds most likely
for it besides its own. Each pair is blended by one of four masks and labelled with the class of the
retain image: the label is right for something in the picture, unlike a random one. The model is then
fine-tuned on the retain set, augmented, and these hybrids, as they are, shuffled together.

From the official code: the masks, which are tents along the rows, along the columns, and their
complements, raised by ``delta`` and cut to [0, 1] as the weight of the forgotten image; hybrids made
once, before training; AdamW for 5 epochs with a cosine schedule (there by step, here by epoch) and
``delta`` -0.19, the script for random forgetting on CIFAR-10 with a VGG16. Its script for a class of
CIFAR-100 has delta -0.053, learning rate 2.8e-4, no weight decay, and reinitialises the last layer,
which is left out here.

Ours: each class's retain images are dealt out in random order, and again from the first once all
are used. The official code uses none twice: it hands a surplus to other classes in random
forgetting, and does not terminate in class forgetting. Classes without retain images are passed
over; with fewer than four others, the most likely ones are taken again. Grey levels are rounded
rather than cut off.
"""

from typing import Literal

import torch

from unlearn.api.methods import (
    Classifier,
    Count,
    ImageSet,
    MethodContext,
    Natural,
    NonNegative,
    Training,
    fit,
    mixture,
    to_float,
)

DATA_ROLES = ("retain", "forget")
TUNING_GRID = {
    "sgd": {"lr": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)},
    "adaptive": {"lr": (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)},
}


class Settings(Training):
    epochs: Count = 5
    lr: NonNegative = 0.001
    batch_size: Natural = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    weight_decay: NonNegative = 0.002
    schedule: Literal["constant", "cosine"] = "cosine"
    delta: float = -0.19


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Minimise the cross-entropy over the retain set and the hybrids."""
    made = hybrids(model, context, settings)
    retain = context.images("retain")
    fit(
        model,
        settings,
        context,
        lambda epoch: mixture(context, retain, made, epoch, settings.batch_size, "retain+hybrids"),
    )


def hybrids(model: Classifier, context: MethodContext, settings: Settings) -> ImageSet:
    """Four images for each forgotten one, in its order, with its id and the labels of their donors."""
    forget, retain = context.images("forget"), context.images("retain")
    weight = masks(*context.spec.shape[1:], settings.delta).to(context.device)
    labels = wrong_classes(model, context, len(weight), settings.batch_size)
    donors = deal(retain.labels, labels.flatten(), context.generator("donors")).view_as(labels)
    pixels = torch.empty((*labels.shape, *context.spec.shape), dtype=torch.uint8, device=context.device)
    for index in torch.arange(len(forget), device=context.device).split(settings.batch_size):
        with context.step("hybrids", len(index)):
            old, new = forget.pixels[index][:, None].float(), retain.pixels[donors[index]].float()
            pixels[index] = (weight * old + (1 - weight) * new).round().to(torch.uint8)
    return ImageSet(forget.ids.repeat_interleave(len(weight)), pixels.flatten(0, 1), labels.flatten())


def masks(height: int, width: int, delta: float) -> torch.Tensor:
    """Weights of the forgotten image [4, 1, H, W]: a tent over rows, over columns, and their complements."""
    tents = []
    for size in (height, width):
        position = torch.arange(size)
        tents.append(torch.minimum(position, size - 1 - position) / (size / 2))
    rows, columns = tents[0][:, None].expand(height, width), tents[1].expand(height, width)
    rising = torch.stack([rows, columns, rows.max() - rows, columns.max() - columns])
    return (rising + delta).clamp(0, 1)[:, None]


@torch.no_grad()
def wrong_classes(model: Classifier, context: MethodContext, count: int, batch_size: int) -> torch.Tensor:
    """For each forgotten image the ``count`` most likely classes, not its own, that have retain images.

    int64 [N, count]; shorter lists are repeated. Raises ValueError where there is no such class.
    """
    model.eval()
    forget, kept = (
        context.images("forget"),
        context.images("retain").labels.bincount(minlength=context.spec.classes) > 0,
    )
    classes = []
    for index in torch.arange(len(forget), device=context.device).split(batch_size):
        with context.step("classes", len(index)):
            own = torch.nn.functional.one_hot(forget.labels[index], context.spec.classes).bool()
            logits = model(to_float(forget.pixels[index])).masked_fill(own | ~kept, -torch.inf)
            classes.append(ranked(logits, count))
    return torch.cat(classes)


def ranked(logits: torch.Tensor, count: int) -> torch.Tensor:
    """The ``count`` best columns of each row [B, C], starting again from the best after the last finite one."""
    choices = logits.isfinite().sum(1, keepdim=True)
    if not choices.all():
        raise ValueError("natmu needs retain images of a class other than the forgotten image's own")
    place = torch.arange(count, device=logits.device) % choices
    return logits.sort(dim=1, descending=True, stable=True).indices.gather(1, place)


def deal(labels: torch.Tensor, wanted: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A position in ``labels`` for each class in ``wanted``: a class's images in random order, all before any again."""
    dealt = torch.empty_like(wanted)
    for label in wanted.unique():
        deck = (labels == label).nonzero().flatten()
        deck = deck[torch.randperm(len(deck), generator=generator).to(deck.device)]
        places = (wanted == label).nonzero().flatten()
        dealt[places] = deck[torch.arange(len(places), device=deck.device) % len(deck)]
    return dealt
