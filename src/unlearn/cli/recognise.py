"""Weights of the user's: the stem that they fit, and the constants of normalization under which they know images."""

from typing import Any

import torch

from unlearn.models import images
from unlearn.models.classifier import Classifier, ModelError, create
from unlearn.models.recognition import predictions
from unlearn.models.weights import fill, read
from unlearn.stages.layers import SAMPLE

# Constants that models are commonly trained with, by name.
NORMALIZATIONS = {
    "0.5 and 0.25": {"mean": [0.5], "std": [0.25]},
    "0.5 and 0.5": {"mean": [0.5], "std": [0.5]},
    "0 and 1": {"mean": [0.0], "std": [1.0]},
    "ImageNet's": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "CIFAR-10's": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]},
    "MNIST's": {"mean": [0.1307], "std": [0.3081]},
}
DEFAULT = "0.5 and 0.25"


def built(dataset: str, model: str, weights: str | None) -> Classifier:
    """The model for the images of a dataset table, with the native stem; or, where only that fits the weights, with the
    one for small images. Raises ModelError for a model that cannot be built, and for weights that fit neither."""
    net = _with_stem(dataset, model, "native")
    if weights is None:
        return net
    try:
        fill(net, weights)
    except ModelError as error:
        try:
            net = _with_stem(dataset, model, "cifar")
            fill(net, weights)
        except ModelError:
            raise error from None
    return net


def channels(weights: str) -> int | None:
    """Of the images that weights are for, by their first convolution; None if there is none."""
    return next((tensor.shape[1] for tensor in read(weights).values() if tensor.ndim == 4), None)


def _with_stem(dataset: str, model: str, stem: str) -> Classifier:
    normalize = NORMALIZATIONS[DEFAULT]
    return create(images.model_spec(dataset, {"model": model, "stem": stem, "normalize": normalize}), 0)


def normalized(net: Classifier, dataset: str) -> tuple[dict[str, Any], list[str]]:
    """The constants under which a trained model is right on most of a sample of the training images, and a line on the
    accuracies. A choice among known constants, so that no image leaves a trace in them."""
    names, (channels, *_) = images.describe(dataset)
    sample = images.stratified(images.training_set(dataset), max(SAMPLE, 10 * len(names)), 0)
    right: dict[str, float] = {}
    for name, constants in NORMALIZATIONS.items():
        if len(constants["mean"]) in (1, channels):
            net.mean, net.std = (torch.tensor(constants[key]).view(-1, 1, 1) for key in ("mean", "std"))
            right[name] = (predictions(net, sample) == sample.labels).double().mean().item()
    best = max(right, key=right.__getitem__)
    listed = ", ".join(f"{name} {value:.3f}" for name, value in right.items())
    lines = [f"accuracy of the weights on {len(sample)} training images by normalization: {listed}; taken: {best}"]
    noise = 2 * (right[best] * (1 - right[best]) / len(sample)) ** 0.5  # two standard errors, and one image at least
    near = [
        name for name, value in right.items() if name != best and right[best] - value <= max(noise, 1 / len(sample))
    ]
    lines += [f"warning: {name} is as good by this sample: check normalize" for name in near]
    return NORMALIZATIONS[best], lines
