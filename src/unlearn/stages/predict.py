"""predict: per-sample logits of a run's model, for every role."""

from typing import Any

import numpy as np
import torch

from unlearn import checkpoint, images, tables
from unlearn.models import Classifier
from unlearn.provenance import record
from unlearn.tables import Run

BATCH = 512


def predict(run: dict[str, Any], model: str, dataset: str, split: str, out: str, device: str) -> None:
    """Evaluation mode, float32, no augmentation."""
    net = checkpoint.load(model, device)
    sets = images.by_role(dataset, split, ("retain", "forget", "test"))
    with tables.Writer("predictions", out, record(run=run, device=device), Run(**run)) as writer:
        for role, found in sets.items():
            writer.write(
                {
                    "id": found.ids.numpy(),
                    "role": np.repeat(role, len(found)),
                    "label": found.labels.numpy(),
                    "logits": tables.rows(logits(net, found, device)),
                }
            )


@torch.no_grad()
def logits(net: Classifier, found: images.ImageSet, device: str) -> np.ndarray:
    """Float32 [N, C] of a model in evaluation mode."""
    net.eval()
    parts = [net(images.to_float(pixels.to(device))).float().cpu() for pixels in found.pixels.split(BATCH)]
    return torch.cat(parts).numpy()
