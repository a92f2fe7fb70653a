"""predict: per-sample logits and linearised margin of a run's model, for every role."""

import numpy as np
import torch

from unlearn.io import tables
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.models import checkpoint, images
from unlearn.models.classifier import Classifier
from unlearn.models.device import prepare
from unlearn.run import Run

BATCH = 512
GRADIENT_BATCH = 128


def predict(run: Run, model: str, dataset: str, split: str, out: str, device: str) -> None:
    """Evaluation mode, float32, no augmentation."""
    device = prepare(device)
    net = checkpoint.load(model, device)
    sets = images.by_role(dataset, split, ("retain", "forget", "test"))
    with tables.Writer(PREDICTIONS, out, {"device": str(device)}, run) as writer:
        for role, found in sets.items():
            outputs, margins = examine(net, found, device)
            writer.write(
                {
                    "id": found.ids.numpy(),
                    "role": role,
                    "label": found.labels.numpy(),
                    "logits": tables.rows(outputs),
                    "margin": margins,
                }
            )


@torch.no_grad()
def logits(net: Classifier, found: images.ImageSet, device: torch.device) -> np.ndarray:
    """Float32 [N, C] of a model in evaluation mode."""
    net.eval()
    parts = [net(images.to_float(pixels.to(device))).float().cpu() for pixels in found.pixels.split(BATCH)]
    return torch.cat(parts).numpy()


def examine(net: Classifier, found: images.ImageSet, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [N, C] and linearised margins float64 [N] (see ``unlearn.metrics.linearised_margin``),
    NaN where the margin has no gradient; evaluation mode."""
    net.eval().requires_grad_(False)
    outputs, margins = [], []
    for pixels, labels in zip(found.pixels.split(GRADIENT_BATCH), found.labels.split(GRADIENT_BATCH), strict=True):
        x, y = images.to_float(pixels.to(device)).requires_grad_(True), labels.to(device)[:, None]
        logits = net(x).float()
        others = logits.scatter(1, y, -torch.inf).amax(1)
        margin = logits.gather(1, y)[:, 0] - others
        (gradient,) = torch.autograd.grad(margin.sum(), x)
        slope = gradient.double().abs().flatten(1).sum(1)
        margins.append(torch.where(slope > 0, margin.double() / slope, torch.nan).detach().cpu())
        outputs.append(logits.detach().cpu())
    return torch.cat(outputs).numpy(), torch.cat(margins).numpy()
