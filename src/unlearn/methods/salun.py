"""SalUn: random labelling of the salient weights only.

Fan et al. 2024, "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency"
(arXiv:2310.12508, §4). Saliency is |gradient of the forget loss| at the original weights, summed
over the forget set before the absolute value, in evaluation mode; the share ``density`` of largest
values, ranked over all parameters of the scope together, is trainable. The others are restored after
every step: zeroing their gradients alone would leave them to weight decay and momentum, as the
official code did until 2026. The saliency images are not augmented. Defaults are the README's for
10 % random forgetting.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from unlearn.api.methods import (
    Classifier,
    MethodContext,
    NonNegative,
    Share,
    Training,
    fit,
    scopes,
    to_float,
)
from unlearn.methods.rl import relabelled

DATA_ROLES = ("retain", "forget")
TUNING_GRID = {
    "sgd": {"lr": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)},
    "adaptive": {"lr": (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)},
}


class Settings(Training):
    lr: NonNegative = 0.013
    order: Literal["sequential", "mixed"] = "sequential"
    relabel: Literal["epoch", "once"] = "epoch"
    exclude_true: bool = True
    density: Share = 0.5


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """RL, with every weight outside the mask restored bit for bit after each step."""
    scopes.freeze(model, context.scope)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    mask = saliency_mask(saliency(model, context, settings.batch_size), settings.density)
    kept = [
        (trainable[name], mask[name], trainable[name].detach().clone()) for name in trainable if not mask[name].all()
    ]

    @torch.no_grad()
    def restore(_: Classifier) -> None:
        for parameter, chosen, original in kept:
            parameter.copy_(torch.where(chosen, parameter, original))

    context, batches = relabelled(context, settings)
    fit(model, settings, context, batches, after_step=restore)


def saliency(model: Classifier, context: MethodContext, batch_size: int) -> dict[str, torch.Tensor]:
    """|gradient of the mean forget loss| by name of the trainable parameters."""
    model.eval()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    images = context.images("forget")
    total = {name: torch.zeros_like(p) for name, p in trainable.items()}
    for index in torch.arange(len(images), device=context.device).split(batch_size):
        with context.step("saliency", len(index)):
            loss = F.cross_entropy(model(to_float(images.pixels[index])), images.labels[index], reduction="sum")
            for accumulated, gradient in zip(
                total.values(), torch.autograd.grad(loss / len(images), list(trainable.values())), strict=True
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
