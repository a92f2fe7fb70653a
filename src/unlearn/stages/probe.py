"""probe: activation statistics of every normalization layer, per class."""

from dataclasses import asdict

from unlearn.evaluation.activations import ProbeSettings, spreads
from unlearn.io import tables
from unlearn.io.schema.activations import ACTIVATIONS
from unlearn.models import checkpoint, images
from unlearn.models.device import prepare
from unlearn.run import Run


def probe(run: Run, model: str, dataset: str, split: str, out: str, settings: ProbeSettings, device: str) -> None:
    """``settings``: at, sigma, channels and roles; see ``unlearn.evaluation.activations``."""
    device = prepare(device)
    net = checkpoint.load(model, device)
    sets = images.by_role(dataset, split, tuple(settings.roles))
    with tables.Writer(ACTIVATIONS, out, {"settings": asdict(settings), "device": str(device)}, run) as writer:
        for role, found in sets.items():
            rows = list(spreads(net, found.to(device), settings.at, settings.sigma, settings.channels))
            writer.write(
                {
                    "layer": [row.layer for row in rows],
                    "depth": [row.depth for row in rows],
                    "role": [role] * len(rows),
                    "class": [row.label for row in rows],
                    "channel": [row.channel for row in rows],
                    "count": [row.count for row in rows],
                    "mean": [row.mean for row in rows],
                    "sigma": [row.sigma for row in rows],
                }
            )
