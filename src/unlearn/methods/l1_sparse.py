"""l1-sparse: fine-tune on the retain set under a fading l1 penalty.

Jia et al. 2023, "Model Sparsity Can Simplify Machine Unlearning" (arXiv:2304.04934): the loss
is CE + gamma_t · ‖theta‖₁ over all parameters, batch norm and biases included, here those of the
scope. gamma_t falls linearly from ``gamma`` in the first epoch towards 0; the last ``plain_epochs``
go without penalty. Nothing is pruned, and the subgradient steps leave small weights rather than
exact zeros. Defaults are the published ones for 10 % random forgetting (gamma 1e-4, 10 epochs,
learning rate 0.01). One official repository divides by zero and the other never decays when every
epoch is to be plain; here that is CF, bit for bit, as is gamma 0.
"""

from collections.abc import Iterator

import torch

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

DATA_ROLES = ("retain",)
TUNING_GRID = {
    "sgd": {"lr": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)},
    "adaptive": {"lr": (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)},
}


@dataclass(frozen=True)
class Settings(Training):
    gamma: NonNegative = 1e-4
    plain_epochs: Count = 0


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Minimise the retain cross-entropy plus the epoch's share of the scope's l1 norm."""
    gamma = 0.0

    def batches(epoch: int) -> Iterator[Batch]:
        nonlocal gamma
        gamma = penalty(settings, epoch)
        return context.batches("retain", epoch, settings.batch_size)

    def loss(model: Classifier, batch: Batch) -> torch.Tensor:
        return cross_entropy(model, batch) + gamma * sum(p.abs().sum() for p in model.parameters() if p.requires_grad)

    fit(model, settings, context, batches, loss)


def penalty(settings: Settings, epoch: int) -> float:
    """gamma_t of epochs 1, 2, …"""
    decaying = settings.epochs - settings.plain_epochs
    return settings.gamma * (1 - (epoch - 1) / decaying) if epoch <= decaying else 0.0
