"""probe: activation statistics of every normalization layer, per class."""

from typing import Any

from unlearn import checkpoint, images, schema, tables
from unlearn.activations import spreads
from unlearn.provenance import record
from unlearn.schema import Run


def probe(
    run: dict[str, Any], model: str, dataset: str, split: str, out: str, settings: dict[str, Any], device: str
) -> None:
    """``settings``: at, sigma, channels and roles; see ``unlearn.activations``."""
    net = checkpoint.load(model, device)
    sets = images.by_role(dataset, split, tuple(settings["roles"]))
    with tables.Writer(schema.ACTIVATIONS, out, record(settings, run=run, device=device), Run(**run)) as writer:
        for role, found in sets.items():
            rows = list(spreads(net, found.to(device), settings["at"], settings["sigma"], settings["channels"]))
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
