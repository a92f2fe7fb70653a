"""The last layer of a classifier, for the methods that treat it differently."""

from torch import nn

from unlearn.models import Classifier, ModelError


def head(model: Classifier) -> nn.Linear | nn.Conv2d:
    """The layer that makes the logits: linear, or a convolution in fully convolutional models.

    timm's ``get_classifier`` gives it, or a module around it. Raises ModelError for a model
    without one, or with several, such as a distilled transformer.
    """
    found = model.net.get_classifier() if hasattr(model.net, "get_classifier") else model.net
    layers = [m for m in found.modules() if width(m) == model.spec.classes] if isinstance(found, nn.Module) else []
    if not layers:
        raise ModelError(f"model {model.spec.model!r} has no single last layer of {model.spec.classes} outputs")
    return layers[-1]


def width(module: nn.Module) -> int | None:
    """Number of outputs of a linear or convolutional layer."""
    match module:
        case nn.Linear():
            return module.out_features
        case nn.Conv2d(groups=1):
            return module.out_channels
