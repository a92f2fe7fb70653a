"""Whether weights know the images that they were trained on.

Weights that fit a model may still be another's: other normalization constants, classes in another order, channels in
another order.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from unlearn.models.classifier import Classifier, ModelError
from unlearn.models.images import ImageSet, to_float
from unlearn.models.weights import fill

MARGIN = 0.1  # of the way from chance to 1
BATCH = 512


@torch.no_grad()
def predictions(model: Classifier, images: ImageSet) -> Tensor:
    """The class that a model in evaluation mode gives to each image, int64 [N] on the CPU. Not what the stage predict
    does, so that an edit there trains nothing again."""
    model.eval()
    device = next(model.parameters()).device
    return torch.cat([model(to_float(part.to(device))).argmax(1).cpu() for part in images.pixels.split(BATCH)])


def beyond_chance(labels: Tensor) -> float:
    """The accuracy on training images with these labels that weights which know the classes exceed: a tenth of the way
    from that of calling everything by the name of the largest class to 1.

    >>> round(beyond_chance(torch.tensor([0, 0, 1, 2])), 3)
    0.55
    """
    chance = labels.bincount().max().item() / len(labels)
    return chance + MARGIN * (1 - chance)


def taken(net: Classifier, path: str, found: ImageSet, names: Sequence[str], key: str, trust: bool) -> float:
    """Fill the model with weights, and return its accuracy on images that these were trained on. ``names``: those of
    the classes. Raises ModelError naming the ``key`` and the file, for what is doubted unless it is to be trusted."""
    try:
        fill(net, path)
        labels, called = found.labels.numpy(), predictions(net, found).numpy()
        if not trust and (doubt := doubted(labels, called, names, beyond_chance(found.labels))):
            raise ModelError(f"{path}: {doubt}; with trust: true, beside weights, it is taken as it is")
    except ModelError as error:
        raise ModelError(f"{key}: {error}") from None
    return float((labels == called).mean())


def doubted(labels: np.ndarray, called: np.ndarray, names: Sequence[str], limit: float) -> str | None:
    """Why predictions of training images [N] are not those of a model of these classes, whose accuracy is beyond the
    ``limit`` of chance; None for no doubt.

    Classes are in another order if most images of each class of a ring are given the name of the next one: a class that
    a model has merely not learned is in no ring.

    >>> doubted(np.array([0, 0, 1, 1, 2, 2]), np.array([1, 1, 0, 0, 2, 2]), ["ant", "bee", "cat"], 0.4)
    'most images of ant are called bee: the classes are in another order'
    """
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (labels, called), 1)
    sure = 2 * counts.max(1) > counts.sum(1)
    following = {int(c): int(counts[c].argmax()) for c in np.flatnonzero(sure)}
    for first in following:
        if following[first] != first and _returns(first, following):
            called_as = names[following[first]]
            return f"most images of {names[first]} are called {called_as}: the classes are in another order"
    right = np.trace(counts) / len(labels)
    if right <= limit and len(np.unique(labels)) > 1:
        return (
            f"accuracy {right:.3f} on the images that it was trained on, near chance (up to {limit:.3f}): check "
            "normalize of the data set, the order of classes and of channels"
        )
    return None


def _returns(first: int, following: Mapping[int, int]) -> bool:
    """Whether the steps from a class lead back to it."""
    reached = following[first]
    for _ in following:
        if reached == first or reached not in following:
            break
        reached = following[reached]
    return reached == first
