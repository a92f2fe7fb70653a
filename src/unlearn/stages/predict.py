"""predict: per-sample logits and linearised margin of a run's model, for every role."""

import numpy as np
import torch

from unlearn.io import tables
from unlearn.io.failures import RunFailed
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
    """Float32 [N, C] of a model in evaluation mode. Raises RunFailed if they are not finite."""
    net.eval()
    parts = [net(images.to_float(pixels.to(device))).float().cpu() for pixels in found.pixels.split(BATCH)]
    return _finite(torch.cat(parts))


def _finite(logits: torch.Tensor) -> np.ndarray:
    if bad := int((~logits.isfinite().all(1)).sum()):
        raise RunFailed(f"the logits of {bad} of {len(logits)} images are not finite")
    return logits.numpy()


def examine(net: Classifier, found: images.ImageSet, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [N, C] and linearised margins float64 [N] (see ``unlearn.metrics.linearised_margin``),
    NaN where the margin has no gradient, or one that is not finite; evaluation mode. Raises RunFailed if logits are not
    finite."""
    net.eval().requires_grad_(False)
    outputs, margins = [], []
    for pixels, labels in zip(found.pixels.split(GRADIENT_BATCH), found.labels.split(GRADIENT_BATCH), strict=True):
        x, y = images.to_float(pixels.to(device)).requires_grad_(True), labels.to(device)[:, None]
        logits = net(x).float()
        others = logits.scatter(1, y, -torch.inf).amax(1)
        margin = logits.gather(1, y)[:, 0] - others
        (gradient,) = torch.autograd.grad(margin.sum(), x)
        slope = gradient.double().abs().flatten(1).sum(1)
        ratio = margin.double() / slope
        margins.append(torch.where((slope > 0) & slope.isfinite() & ratio.isfinite(), ratio, torch.nan).detach().cpu())
        outputs.append(logits.detach().cpu())
    return _finite(torch.cat(outputs)), torch.cat(margins).numpy()
