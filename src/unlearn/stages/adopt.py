"""adopt: a model that the user trained, retrained or unlearned elsewhere, as a result of this study."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unlearn.io import tables
from unlearn.io.schema.cost import COST
from unlearn.io.schema.history import HISTORY
from unlearn.models import checkpoint, classifier, images, scopes
from unlearn.models.device import prepare
from unlearn.models.recognition import taken
from unlearn.run import Run

log = logging.getLogger("unlearn")


@dataclass(frozen=True)
class AdoptionSettings:
    """``model``: the architecture; ``key``: that of the config that names the file; ``trust``: whether any accuracy
    will do; ``seconds``: time that making it took elsewhere, None if not known."""

    model: dict[str, Any]
    key: str
    trust: bool
    seconds: float | None


def adopt(
    run: Run,
    dataset: str,
    weights: str,
    model: str,
    history: str,
    cost: str,
    settings: AdoptionSettings,
    device: str,
    split: str | None = None,
    snapshots: str | None = None,
) -> None:
    """Write the ``weights`` as the run's model, without a history and with the cost that is known. The accuracy is
    that on the images that the ``split`` retains, or on all training images.

    Raises ModelError naming the key and the file for weights that do not fit, or are no better than chance.
    """
    device = prepare(device)
    net = classifier.create(images.model_spec(dataset, settings.model), 0).to(device)
    names, found = images.describe(dataset)[0], images.training_set(dataset)
    if split:
        found = images.by_role(dataset, split, ("retain",))["retain"]
    accuracy = taken(net, weights, found, names, settings.key, settings.trust)
    log.info("%s: accuracy %.4f on the %d images that it was trained on", weights, accuracy, len(found))
    described = {"settings": asdict(settings), "device": str(device), "weights": weights, "accuracy": accuracy}
    empty = {"epoch": np.empty(0, int), **{key: np.empty(0) for key in ("loss", "lr", "seconds")}}
    tables.write(HISTORY, history, empty, described, run)
    sizes = {"parameters": sum(p.numel() for p in net.parameters()), "layers": len(scopes.layers(net))}
    unknown = dict.fromkeys(("cpu_seconds", "peak_memory", "flops", "trainable_parameters", "trainable_layers"))
    known = {"seconds": settings.seconds, **sizes, "device": "elsewhere", "precision": "unknown"}
    tables.write(COST, cost, {key: [value] for key, value in {**unknown, **known}.items()}, described, run)
    if snapshots:
        checkpoint.save_snapshots({}, snapshots)
    checkpoint.save(net, model, {**described, "run": vars(run)})
