"""FGSM: one signed gradient step. Goodfellow et al. 2015, arXiv:1412.6572, §4."""

from collections.abc import Callable

import torchattacks
from torch import Tensor, nn

from unlearn.hyper import dataclass


@dataclass(frozen=True)
class Settings:
    pass


def build(model: nn.Module, eps: float, settings: Settings) -> Callable[[Tensor, Tensor], Tensor]:
    return torchattacks.FGSM(model, eps=eps)
