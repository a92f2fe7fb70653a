"""UNSIR: impair with error-maximising noise in the name of a class, then repair.

Tarun et al. 2023, "Fast Yet Effective Machine Unlearning" (arXiv:2111.08947). Zero glance: the
method never sees the forget set, only which classes are to go, here those without a retain image.

1. For each of them, noise images are trained to *maximise* the original model's error for the class,
   held back by ``noise_norm`` · ‖noise‖².
2. Impair: an epoch on that noise, labelled with its class, mixed with some retain images of each class.
3. Repair: an epoch on those retain images alone.

Defaults are those of the official CIFAR-10 notebook; the published ports take 1e-4 for both rates.
The noise lives in the scale that the network sees after normalization and is not confined to the
range of images, as in the official code. There a loop over the wrong dimension lets only the first
three noise images into the impair set, and all carry the label 0; here all do, ``noise_repeats``
times as intended, each with its own class. The original model is in evaluation mode in step 1 (the
official code leaves that open), and the optimiser starts afresh for the repair.
"""

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F

from unlearn.api.methods import (
    Budget,
    Classifier,
    Count,
    ImageSet,
    MethodContext,
    Natural,
    NonNegative,
    Positive,
    Training,
    fit,
    mixture,
)

DATA_ROLES = ("retain",)
FORGET_KINDS = ("class",)
TUNING_GRID = {
    "sgd": {"lr": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)},
    "adaptive": {"lr": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)},
}


class Settings(Training):
    """``epochs`` and ``lr`` are those of the impairing step."""

    epochs: Count = 1
    lr: NonNegative = 0.02
    repair_epochs: Count = 1
    repair_lr: NonNegative = 0.01
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: NonNegative = 0.0
    noise_images: Natural = 256
    noise_steps: Count = 40
    noise_lr: Positive = 0.1
    noise_norm: NonNegative = 0.1
    noise_repeats: Natural = 20
    images_per_class: Budget = 1000


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Noise, impair, repair. Raises ValueError if every class has retain images."""
    retain = context.images("retain")
    gone = sorted(set(range(context.spec.classes)) - set(retain.labels.tolist()))
    if not gone:
        raise ValueError("unsir forgets whole classes, but every class has retain images")
    some = retain.select(sample(retain.labels, settings.images_per_class, context.generator("retain sample")))
    noise = noise_set(model, context, gone, settings)
    fit(model, settings, context, lambda epoch: mixture(context, some, noise, epoch, settings.batch_size, "impair"))

    repair = replace(context, data={"repair": some}, history=[])
    recipe = settings.model_copy(update={"epochs": settings.repair_epochs, "lr": settings.repair_lr})
    fit(model, recipe, repair, lambda epoch: repair.batches("repair", epoch, settings.batch_size))
    context.history += [{**row, "epoch": settings.epochs + row["epoch"]} for row in repair.history]


def sample(labels: torch.Tensor, count: int | None, generator: torch.Generator) -> torch.Tensor:
    """Ascending positions of ``count`` random images of each class (all of a smaller class)."""
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    chosen = [order[labels[order] == label][:count] for label in labels.unique()]
    return torch.cat(chosen).sort().values


def noise_set(model: Classifier, context: MethodContext, classes: list[int], settings: Settings) -> ImageSet:
    """``noise_repeats`` copies of each class's noise images, labelled with the class; ids all -1."""
    pixels = torch.cat([noise_images(model, context, label, settings) for label in classes])
    labels = torch.tensor(classes, device=context.device).repeat_interleave(settings.noise_images)
    times = settings.noise_repeats
    return ImageSet(labels.new_full((times * len(labels),), -1), pixels.repeat(times, 1, 1, 1), labels.repeat(times))


def noise_images(model: Classifier, context: MethodContext, label: int, settings: Settings) -> torch.Tensor:
    """Float images [B, C, H, W], in a batch's scale, that ``model`` finds as unlike ``label`` as it can."""
    model.requires_grad_(False).eval()
    start = torch.randn(settings.noise_images, *context.spec.shape, generator=context.generator(f"noise {label}"))
    noise = start.to(context.device).requires_grad_(True)
    y = torch.full((len(noise),), label, device=context.device)
    optimizer = torch.optim.Adam([noise], settings.noise_lr)
    for _ in range(settings.noise_steps):
        with context.step("noise"):
            error = F.cross_entropy(model(noise * model.std + model.mean), y)
            loss = settings.noise_norm * noise.square().sum((1, 2, 3)).mean() - error
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return (noise.detach() * model.std + model.mean).contiguous()
