"""The normalization layers of a model. The fairness-gap is measured on them."""

import timm.layers
from torch import nn

NORMALIZATION = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    timm.layers.RmsNorm,
    timm.layers.RmsNorm2d,
    timm.layers.SimpleNorm,
    timm.layers.SimpleNorm2d,
    timm.layers.FrozenBatchNormAct2d,
)


class ProbeError(RuntimeError):
    """A model whose activations cannot be measured."""


def normalization_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Normalization layers by name, in order of registration; a model may have none (VGG, NFNet)."""
    return {name: module for name, module in model.named_modules() if isinstance(module, NORMALIZATION)}
