"""shadow_split: which half of the training images a shadow model of U-LiRA learns, and what it forgets of it."""

import logging
from dataclasses import asdict, dataclass

import numpy as np

from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET
from unlearn.io.schema.split import SPLIT
from unlearn.stages.split import SplitError

log = logging.getLogger("unlearn")


@dataclass(frozen=True)
class ShadowSettings:
    """``fraction`` of its own half of the training images that a shadow forgets; ``seed`` of all halves."""

    fraction: float
    seed: int


def shadow_split(dataset: str, half: str, split: str, shadow: int, settings: ShadowSettings) -> None:
    """Both outputs are split tables.

    ``split`` has roles retain, forget, unseen and test; in ``half`` what is to be forgotten is still
    retained, so that retraining on it is pretraining. Shadows are drawn independently of one another:
    what the other shadows saw says nothing about what this one saw.

    Raises SplitError for a fraction that forgets no image of the half, or all of it.
    """
    table = tables.read(DATASET, dataset, ["id", "split"])
    ids = table["id"].to_numpy()
    training = table["split"].to_numpy(zero_copy_only=False) == "train"
    learned = np.random.default_rng([settings.seed, shadow]).permutation(ids[training])[: training.sum() // 2]
    count = round(settings.fraction * len(learned))
    if not 0 < count < len(learned):
        raise SplitError(f"settings.ulira.fraction: forgets {count} of a shadow's {len(learned)} images")
    role = np.where(training, np.where(np.isin(ids, learned), "retain", "unseen"), "test")
    metadata = {"settings": asdict(settings), "shadow": shadow}
    tables.write(SPLIT, half, {"id": ids, "role": role}, metadata)
    role = np.where(np.isin(ids, learned[:count]), "forget", role)
    tables.write(SPLIT, split, {"id": ids, "role": role}, metadata)
    log.info("shadow %d: forget %d of %d images", shadow, count, len(learned))
