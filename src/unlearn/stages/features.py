"""features: what a run's model knows of a fixed sample of images, at every layer group."""

import logging
from collections.abc import Mapping

import numpy as np

from unlearn.evaluation.features import layer_features
from unlearn.io import tables
from unlearn.io.schema.features import FEATURES
from unlearn.models import checkpoint, images
from unlearn.models.device import prepare
from unlearn.run import Run

log = logging.getLogger("unlearn")

SEED = 0  # of the sample: the same for all runs, so that they are paired
LARGEST = float(np.finfo(np.float16).max)  # 65504


def features(
    run: Run, model: str, dataset: str, split: str, out: str, settings: Mapping[str, int | None], device: str
) -> None:
    """``settings``: role → number of images, stratified by class, None for all.

    float16 holds numbers up to 65504. Larger ones are clipped to it; how many of each layer is in the metadata and in
    the log. Raises FeatureError for features that are not finite.
    """
    device = prepare(device)
    net = checkpoint.load(model, device)
    sets = images.by_role(dataset, split, tuple(settings))
    sets = {role: images.stratified(found, settings[role], SEED) for role, found in sets.items()}
    chosen = sum(list(sets.values())[1:], next(iter(sets.values())))
    found = layer_features(net, chosen.to(device))
    clipped = {layer: int((np.abs(x) > LARGEST).sum()) for layer, x in found.items()}
    if beyond := {layer: count for layer, count in clipped.items() if count}:
        log.warning("features beyond %g are clipped: %s", LARGEST, beyond)
    described = {"settings": dict(settings), "device": str(device), "clipped": clipped}
    with tables.Writer(FEATURES, out, described, run) as writer:
        for depth, (layer, x) in enumerate(found.items()):
            writer.write(
                {
                    "id": chosen.ids.numpy(),
                    "role": np.repeat(list(sets), [len(images_) for images_ in sets.values()]),
                    "label": chosen.labels.numpy(),
                    "layer": layer,
                    "depth": depth,
                    "features": tables.rows(x.clip(-LARGEST, LARGEST).astype(np.float16)),
                }
            )
