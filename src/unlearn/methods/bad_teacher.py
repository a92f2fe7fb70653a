"""Bad teacher: listen to an ignorant teacher about the forget set, to the original about the rest.

Chundawat et al. 2023, "Can Bad Teaching Induce Forgetting?" (arXiv:2205.08096). The student,
the original model, learns the soft predictions of two fixed teachers: on forgotten images those of
a freshly initialised network, on a random share of the retained ones, drawn once, those of the
original; both kinds are shuffled together. Defaults are the official ones (Adam, learning rate
1e-4, one epoch, 30 % of the retain set, temperature 1).

The loss is the true divergence KL(teacher ‖ student), summed over classes and averaged over images.
The official code averages over classes too and so divides it by their number, which Adam does not
notice but SGD does: published SGD rates have to be divided by the number of classes here.
The student is in training mode, which the official code leaves to the caller.
"""

import copy
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F

from unlearn.api.methods import (
    Batch,
    Classifier,
    Count,
    ImageSet,
    MethodContext,
    NonNegative,
    Positive,
    Share,
    Training,
    dataclass,
    fit,
)

DATA_ROLES = ("retain", "forget")
TUNING_GRID = {
    "sgd": {"lr": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)},
    "adaptive": {"lr": (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)},
}


@dataclass(frozen=True)
class Settings(Training):
    epochs: Count = 1
    lr: NonNegative = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: NonNegative = 0.0
    retain_share: Share = 0.3
    temperature: Positive = 1.0


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Minimise the divergence from the teacher that is in charge of each image."""
    competent = copy.deepcopy(model).requires_grad_(False).eval()
    incompetent = context.fresh_model("incompetent teacher").requires_grad_(False).eval()
    lessons = replace(context, data={"lessons": tagged(context, settings.retain_share)})

    def loss(student: Classifier, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            forgotten = batch.y.bool()[:, None]
            target = torch.where(forgotten, incompetent(batch.x), competent(batch.x))
        return divergence(student(batch.x), target, settings.temperature)

    fit(model, settings, lessons, lambda epoch: lessons.batches("lessons", epoch, settings.batch_size), loss)


def tagged(context: MethodContext, share: float) -> ImageSet:
    """The forget set with 1 for labels, and a random ``share`` of the retain set with 0."""
    forget, retain = context.images("forget"), context.images("retain")
    order = torch.randperm(len(retain), generator=context.generator("retain share"))
    retain = retain.select(order[: int(share * len(retain))].to(context.device))
    return replace(forget, labels=torch.ones_like(forget.labels)) + replace(
        retain, labels=torch.zeros_like(retain.labels)
    )


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(softmax(teacher / T) ‖ softmax(student / T)) of logits [B, C], mean over the batch."""
    log_p, log_q = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher))
    return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
