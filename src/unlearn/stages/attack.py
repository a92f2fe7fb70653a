"""attack: what a run's model predicts for adversarial images, per radius."""

import logging
from typing import Any

import numpy as np

from unlearn import checkpoint, images, registry, tables
from unlearn.provenance import record
from unlearn.robustness import curve
from unlearn.tables import Run

log = logging.getLogger("unlearn")

SEED = 0  # of the sample and of the attack's noise: the same for all runs, so that they are paired


def attack(
    run: dict[str, Any],
    attack: str,
    model: str,
    dataset: str,
    split: str,
    out: str,
    settings: dict[str, Any],
    device: str,
) -> None:
    """``settings``: the attack's own, the ascending ``eps`` grid, and ``samples`` per role."""
    net = checkpoint.load(model, device)
    plugin, own = registry.load("attacks", attack), registry.settings("attacks", attack, settings["attack"])
    sets = images.by_role(dataset, split, tuple(settings["samples"]))
    metadata = record(settings, run=run, attack=attack, device=device)
    with tables.Writer("adversarial", out, metadata, Run(**run)) as writer:
        for role, found in sets.items():
            chosen = images.stratified(found, settings["samples"][role], SEED).to(device)
            outcomes = curve(net, chosen, settings["eps"], lambda m, e: plugin.build(m, e, own), SEED)
            for eps, predicted, distance in outcomes:
                writer.write(
                    {
                        "attack": np.repeat(attack, len(chosen)),
                        "eps": np.repeat(eps, len(chosen)),
                        "id": chosen.ids.cpu().numpy(),
                        "role": np.repeat(role, len(chosen)),
                        "label": chosen.labels.cpu().numpy(),
                        "predicted": predicted.cpu().numpy(),
                        "distance": distance.cpu().numpy(),
                    }
                )
                robust = (predicted == chosen.labels).double().mean()
                log.info("%s %s eps %g: robust accuracy %.3f (n=%d)", attack, role, eps, robust, len(chosen))
