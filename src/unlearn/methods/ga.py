"""GA, gradient ascent: climb the cross-entropy of the forget set.

Golatkar et al. 2020, "Eternal Sunshine of the Spotless Net" (arXiv:1911.04933), as "negative
gradient"; the defaults are those of SalUn's code (Fan et al. 2024: 5 epochs, learning rate 1e-4).
Its authors call them right for class forgetting and too small for random forgetting, where
5e-4 to 1e-3 is needed. The loss has no upper bound: a rate a little too large destroys the model.

Official codes differ in the mode of batch norm. SalUn trains in training mode (``batch_norm:
batch``, the default, as its published rates were tuned so): the running statistics drift to those
of the forget set, in class forgetting to those of one class, and the normalization by the batch
can hide the ascent. SFR-on (Huang et al. 2024) insists on evaluation mode (``running``): batch
norm keeps and uses its statistics, and a small step certainly raises the loss that the model has
when used. Its ``clip_norm`` is 0.1; null does not clip.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from unlearn.api.methods import Batch, Classifier, Count, MethodContext, NonNegative, Positive, Training, dataclass, fit

DATA_ROLES = ("forget",)
TUNING_GRID = {
    "sgd": {"lr": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)},
    "adaptive": {"lr": (0.000001, 0.000003, 0.00001, 0.00003, 0.0001, 0.0003, 0.001)},
}


@dataclass(frozen=True)
class Settings(Training):
    epochs: Count = 5
    lr: NonNegative = 1e-4
    batch_norm: Literal["batch", "running"] = "batch"
    clip_norm: Positive | None = None


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Maximise the mean cross-entropy over the forget set."""

    def loss(model: Classifier, batch: Batch) -> torch.Tensor:
        if settings.batch_norm == "running":
            hold_statistics(model)
        value = -F.cross_entropy(model(batch.x), batch.y)
        if settings.clip_norm is None:
            return value
        return clipped(value, [p for p in model.parameters() if p.requires_grad], settings.clip_norm)

    fit(model, settings, context, lambda epoch: context.batches("forget", epoch, settings.batch_size), loss)


def hold_statistics(model: Classifier) -> None:
    """Let every batch norm use and keep its running statistics."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def clipped(loss: torch.Tensor, parameters: list[torch.Tensor], limit: float) -> torch.Tensor:
    """A scalar equal to ``loss`` whose gradient is that of ``loss``, shortened to the norm ``limit``."""
    gradients = torch.autograd.grad(loss, parameters)
    factor = (limit / torch.nn.utils.get_total_norm(gradients)).clamp(max=1)
    linear = sum((factor * g * p).sum() for g, p in zip(gradients, parameters, strict=True))
    return loss.detach() + linear - linear.detach()
