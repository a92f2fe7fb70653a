"""Which of a model's layers are normalization layers; without any there is no fairness-gap."""

import timm.layers as layers
from torch import nn

LAYERS = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    layers.RmsNorm,
    layers.RmsNorm2d,
    layers.SimpleNorm,
    layers.SimpleNorm2d,
    layers.FrozenBatchNormAct2d,
)


class ProbeError(RuntimeError):
    """A model whose activations cannot be measured."""


def normalization_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Normalization layers by name, in order of registration. Raises ProbeError if there are none."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    if not found:
        raise ProbeError("the model has no normalization layers, so it has no fairness-gap")
    return found
