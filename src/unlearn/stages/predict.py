"""predict: per-sample logits of a run's model, for every role."""

from typing import Any

import numpy as np
import torch

from unlearn import checkpoint, images, tables
from unlearn.provenance import record
from unlearn.tables import Run

BATCH = 512


def predict(run: dict[str, Any], model: str, dataset: str, split: str, out: str, device: str) -> None:
    """Evaluation mode, float32, no augmentation."""
    net = checkpoint.load(model, device)
    sets = images.by_role(dataset, split, ("retain", "forget", "test"))
    with tables.Writer("predictions", out, record(run=run, device=device), Run(**run)) as writer:
        for role, found in sets.items():
            parts = []
            with torch.no_grad():
                for pixels in found.pixels.split(BATCH):
                    parts.append(net(images.to_float(pixels.to(device))).float().cpu())
            writer.write(
                {
                    "id": found.ids.numpy(),
                    "role": np.repeat(role, len(found)),
                    "label": found.labels.numpy(),
                    "logits": tables.rows(torch.cat(parts).numpy()),
                }
            )
