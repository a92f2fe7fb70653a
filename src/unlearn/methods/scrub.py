"""SCRUB: a student that disobeys its teacher on the forget set and follows it on the retain set.

Kurmanji et al. 2023, "Towards Unbounded Machine Unlearning" (arXiv:2302.09880, §3, Algorithm 1).
Each of the first ``msteps`` epochs begins with a pass over the forget set that maximises the
divergence from the teacher (the original model); every epoch ends with a pass over the retain set
that minimises gamma · cross-entropy + alpha · divergence. Defaults are those of the official
``large_scale_unlearning.ipynb`` (CIFAR-10, a class): its loaders give 256 retain and 512 forget
images a step; the ``sgda_batch_size`` 128 and ``del_batch_size`` 32 that it also names are not used.
Its ``small_scale_unlearning.ipynb`` takes Adam, 32 retain and 64 forget images, weight decay 0.1.

At the start student and teacher are equal, where the divergence has gradient zero: in a model
without batch norm or dropout the first forgetting pass changes nothing.
"""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from unlearn.api.methods import (
    Batch,
    Classifier,
    Count,
    MethodContext,
    Natural,
    NonNegative,
    Positive,
    Training,
    fit,
)

DATA_ROLES = ("retain", "forget")
TUNING_GRID = {
    "sgd": {"lr": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)},
    "adaptive": {"lr": (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)},
}


class Settings(Training):
    epochs: Count = 3
    lr: NonNegative = 5e-4
    forget_batch_size: Natural = 512
    msteps: Count = 2
    alpha: NonNegative = 0.001
    gamma: NonNegative = 0.99
    temperature: Positive = 4.0


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Alternate the forgetting and the remembering pass; one optimiser serves both."""
    teacher = copy.deepcopy(model).requires_grad_(False).eval()

    def passes(epoch: int) -> Iterator[Batch]:
        if epoch <= settings.msteps:
            yield from context.batches("forget", epoch, settings.forget_batch_size)
        yield from context.batches("retain", epoch, settings.batch_size)

    def loss(student: Classifier, batch: Batch) -> torch.Tensor:
        logits = student(batch.x)
        with torch.no_grad():
            target = teacher(batch.x)
        apart = divergence(logits, target, settings.temperature)
        if batch.role == "forget":
            return -apart
        return settings.gamma * F.cross_entropy(logits, batch.y) + settings.alpha * apart

    fit(model, settings, context, passes, loss)


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), mean over the batch [B, C]."""
    log_p, log_q = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher))
    return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * temperature**2
