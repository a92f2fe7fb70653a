"""SalUn: random labelling of the salient weights only.

Fan et al. 2024, "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency"
(arXiv:2310.12508, §4). Saliency is |gradient of the forget loss| at the original weights, summed
over the forget set before the absolute value, in evaluation mode; the share ``density`` of largest
values, ranked over all parameters of the scope together, may move. The others are put back after
every step: zeroing their gradients alone would leave them to weight decay and momentum, as the
official code did until 2026. The saliency images are not augmented. Defaults are the README's for
10 % random forgetting.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from unlearn import scopes
from unlearn.hyper import NonNegative, Share, Training, dataclass
from unlearn.images import to_float
from unlearn.job import Job
from unlearn.methods.rl import relabelled
from unlearn.models import Classifier
from unlearn.training import fit

SEES = ("retain", "forget")
GRID = {
    "sgd": {"lr": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)},
    "adaptive": {"lr": (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)},
}


@dataclass(frozen=True)
class Settings(Training):
    lr: NonNegative = 0.013
    order: Literal["sequential", "mixed"] = "sequential"
    relabel: Literal["epoch", "once"] = "epoch"
    exclude_true: bool = True
    density: Share = 0.5


def unlearn(model: Classifier, job: Job, settings: Settings) -> None:
    """RL, with every weight outside the mask restored bit for bit after each step."""
    scopes.freeze(model, job.scope)
    moving = {name: p for name, p in model.named_parameters() if p.requires_grad}
    mask = saliency_mask(saliency(model, job, settings.batch_size), settings.density)
    kept = [(moving[name], mask[name], moving[name].detach().clone()) for name in moving if not mask[name].all()]

    @torch.no_grad()
    def restore(_: Classifier) -> None:
        for parameter, moves, original in kept:
            parameter.copy_(torch.where(moves, parameter, original))

    job, batches = relabelled(job, settings)
    fit(model, settings, job, batches, after_step=restore)


def saliency(model: Classifier, job: Job, batch_size: int) -> dict[str, torch.Tensor]:
    """|gradient of the mean forget loss| by parameter name, for the parameters that may move."""
    model.eval()
    moving = {name: p for name, p in model.named_parameters() if p.requires_grad}
    images = job.images("forget")
    total = {name: torch.zeros_like(p) for name, p in moving.items()}
    for index in torch.arange(len(images), device=job.device).split(batch_size):
        with job.step("saliency"):
            loss = F.cross_entropy(model(to_float(images.pixels[index])), images.labels[index], reduction="sum")
            for accumulated, gradient in zip(
                total.values(), torch.autograd.grad(loss / len(images), list(moving.values())), strict=True
            ):
                accumulated += gradient
    return {name: value.abs() for name, value in total.items()}


def saliency_mask(values: dict[str, torch.Tensor], density: float) -> dict[str, torch.Tensor]:
    """True for exactly floor(density · P) of the P weights, the most salient ones.

    Ties are broken by position, so masks of growing density are nested.
    """
    flat = torch.cat([value.flatten() for value in values.values()])
    chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    chosen[flat.argsort(descending=True, stable=True)[: int(density * len(flat))]] = True
    parts = chosen.split([value.numel() for value in values.values()])
    return {name: part.view_as(value) for (name, value), part in zip(values.items(), parts, strict=True)}
