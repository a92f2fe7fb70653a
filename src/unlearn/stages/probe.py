"""probe: activation statistics of every normalization layer, per class."""

import math
from dataclasses import asdict

from unlearn.evaluation.activations import ProbeSettings, spreads
from unlearn.io import tables
from unlearn.io.failures import RunFailed
from unlearn.io.schema.activations import ACTIVATIONS
from unlearn.models import checkpoint, images
from unlearn.models.device import prepare
from unlearn.run import Run

COLUMNS = ("layer", "depth", "channel", "count", "mean", "sigma")  # by the names that they have in a Spread


def probe(run: Run, model: str, dataset: str, split: str, out: str, settings: ProbeSettings, device: str) -> None:
    """``settings``: at, sigma, channels and roles; see ``unlearn.evaluation.activations``. Raises RunFailed for
    activations that are not finite."""
    device = prepare(device)
    net = checkpoint.load(model, device)
    sets = images.by_role(dataset, split, tuple(settings.roles))
    with tables.Writer(ACTIVATIONS, out, {"settings": asdict(settings), "device": str(device)}, run) as writer:
        for role, found in sets.items():
            rows = list(spreads(net, found.to(device), settings.at, settings.sigma, settings.channels))
            if bad := [row.layer for row in rows if not math.isfinite(row.mean + row.sigma)]:
                raise RunFailed(f"the activations of layer {bad[0]!r} are not finite")
            writer.write(
                {
                    "role": role,
                    "class": [row.label for row in rows],
                    **{name: [getattr(row, name) for row in rows] for name in COLUMNS},
                }
            )
