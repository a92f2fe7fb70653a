"""attack: for each attacked image, the smallest radius at which a run's model is fooled."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unlearn.analysis.radii import ascending
from unlearn.config import plugins
from unlearn.evaluation.attack_search import AttackError, search
from unlearn.io import tables
from unlearn.io.progress import NOTHING, Progress
from unlearn.io.schema.adversarial import ADVERSARIAL
from unlearn.models import checkpoint, images
from unlearn.models.device import prepare
from unlearn.run import Run

log = logging.getLogger("unlearn")

SEED = 0  # of the sample and of the attack's noise: the same for all runs, so that they are paired


@dataclass(frozen=True)
class AttackSettings:
    """``attack``: the attack's own settings; ``samples``: role → number of attacked images, None for all."""

    attack: dict[str, Any]
    samples: dict[str, int | None]


def attack(
    run: Run,
    attack: str,
    model: str,
    dataset: str,
    split: str,
    radii: str,
    out: str,
    settings: AttackSettings,
    device: str,
    progress: Progress = NOTHING,
) -> None:
    """``settings``: the attack's own, and ``samples`` per role; ``radii``: the study's radii.

    An attack that aims to recover labels runs on the forget set alone.
    """
    device = prepare(device)
    net = checkpoint.load(model, device)
    plugin, own = plugins.load("attacks", attack), plugins.settings("attacks", attack, settings.attack)
    aim = getattr(plugin, "AIM", "fool")
    eps = ascending(radii, plugin.THREAT_NORM)
    roles = tuple(settings.samples) if aim == "fool" else ("forget",)
    sets = images.by_role(dataset, split, roles)
    sets = {role: images.stratified(found, settings.samples[role], SEED) for role, found in sets.items()}
    chosen = sum(list(sets.values())[1:], next(iter(sets.values()))).to(device)
    role = np.repeat(list(sets), [len(found) for found in sets.values()])
    try:
        found = search(
            net, chosen, eps, lambda m, e: plugin.build(m, e, own), SEED, plugin.THREAT_NORM, aim, progress=progress
        )
    except AttackError as error:
        raise AttackError(f"attacks/{attack}.py: {error}") from error
    columns = {
        "attack": np.repeat(attack, len(chosen)),
        "aim": np.repeat(aim, len(chosen)),
        "threat_norm": np.repeat(plugin.THREAT_NORM, len(chosen)),
        "id": chosen.ids.cpu().numpy(),
        "role": role,
        "label": chosen.labels.cpu().numpy(),
        "eps": found.eps.cpu().numpy(),
        "predicted": found.predicted.cpu().numpy(),
        "distance": found.distance.cpu().numpy(),
        "by": found.by,
    }
    described = {
        "settings": asdict(settings),
        "attack": attack,
        "device": str(device),
        "grid": eps,
        "checks": {**asdict(found.checks), "members": found.members},
    }
    tables.write(ADVERSARIAL, out, columns, described, run)
    for name in sets:
        smallest = columns["eps"][role == name]
        left = [f"{e:g}: {1 - (smallest <= e).mean():.3f}" for e in (0, *eps)]
        log.info("%s %s (n=%d), share withstanding by radius: %s", attack, name, len(smallest), ", ".join(left))
