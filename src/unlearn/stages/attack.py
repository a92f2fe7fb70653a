"""attack: for each attacked image, the smallest radius at which a run's model is fooled."""

import logging
from typing import Any

import numpy as np

from unlearn import checkpoint, images, registry, tables
from unlearn.provenance import record
from unlearn.radii import radii
from unlearn.robustness import Checks, search
from unlearn.tables import Run

log = logging.getLogger("unlearn")

SEED = 0  # of the sample and of the attack's noise: the same for all runs, so that they are paired


def attack(
    run: dict[str, Any],
    attack: str,
    model: str,
    dataset: str,
    split: str,
    grid: str,
    out: str,
    settings: dict[str, Any],
    device: str,
) -> None:
    """``settings``: the attack's own, and ``samples`` per role; ``grid``: the study's radii.

    An attack that aims to recover labels runs on the forget set alone.
    """
    net = checkpoint.load(model, device)
    plugin, own = registry.load("attacks", attack), registry.settings("attacks", attack, settings["attack"])
    aim = getattr(plugin, "AIM", "fool")
    eps = radii(grid, plugin.NORM)
    roles = tuple(settings["samples"]) if aim == "fool" else ("forget",)
    found, checks = [], Checks()
    for role, everything in images.by_role(dataset, split, roles).items():
        chosen = images.stratified(everything, settings["samples"][role], SEED).to(device)
        outcome = search(net, chosen, eps, lambda m, e: plugin.build(m, e, own), SEED, plugin.NORM, aim)
        checks = checks.merge(outcome.checks)
        found.append(
            {
                "attack": np.repeat(attack, len(chosen)),
                "aim": np.repeat(aim, len(chosen)),
                "norm": np.repeat(plugin.NORM, len(chosen)),
                "id": chosen.ids.cpu().numpy(),
                "role": np.repeat(role, len(chosen)),
                "label": chosen.labels.cpu().numpy(),
                "eps": outcome.eps.cpu().numpy(),
                "predicted": outcome.predicted.cpu().numpy(),
                "distance": outcome.distance.cpu().numpy(),
                "by": outcome.by,
            }
        )
        left = [f"{e:g}: {1 - (outcome.eps <= e).double().mean():.3f}" for e in (0, *eps)]
        log.info("%s %s (n=%d), share not yet there by radius: %s", attack, role, len(chosen), ", ".join(left))
    described = record(settings, run=run, attack=attack, device=device, grid=eps, checks=checks.asdict())
    with tables.Writer("adversarial", out, described, Run(**run)) as writer:
        for columns in found:
            writer.write(columns)
