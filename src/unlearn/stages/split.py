"""split: which training images are to be forgotten. One split serves every later stage."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET
from unlearn.io.schema.split import SPLIT

log = logging.getLogger("unlearn")


class SplitError(ValueError):
    """A forget set that cannot be used; the message names the key."""


def split(dataset: str, out: str, forget: str, settings: dict[str, Any]) -> None:
    """``settings``: kind random (fraction, seed), class (classes) or ids (file).

    Raises SplitError for a forget set that is empty, is everything but one class, or names what is not there.
    """
    table = tables.read(DATASET, dataset, ["id", "split", "label"])
    ids, labels = table["id"].to_numpy(), table["label"].to_numpy()
    training = table["split"].to_numpy(zero_copy_only=False) == "train"
    key = f"settings.forgets.{forget}"
    chosen = _choose(ids[training], labels[training], tables.metadata(dataset)["classes"], settings, key)
    if not 0 < len(chosen) < training.sum():
        raise SplitError(f"{key}: forgets {len(chosen)} of {training.sum()} training images")
    if len(np.unique(labels[training & ~np.isin(ids, chosen)])) < 2:
        raise SplitError(f"{key}: what it retains is of one class, and a fairness-gap needs two")
    role = np.where(training, np.where(np.isin(ids, chosen), "forget", "retain"), "test")
    tables.write(SPLIT, out, {"id": ids, "role": role}, {"settings": settings, "forget": forget})
    log.info("%s: forget %d, retain %d, test %d", forget, *((role == r).sum() for r in ("forget", "retain", "test")))


def _choose(ids: np.ndarray, labels: np.ndarray, classes: list[str], settings: dict[str, Any], key: str) -> np.ndarray:
    match settings["kind"]:
        case "random":
            count = round(settings["fraction"] * len(ids))
            return np.random.default_rng(settings["seed"]).choice(ids, count, replace=False)
        case "class":
            index = {**dict(enumerate(range(len(classes)))), **{name: i for i, name in enumerate(classes)}}
            if unknown := [c for c in settings["classes"] if c not in index]:
                raise SplitError(f"{key}.classes: {unknown[0]!r} is neither an index nor one of {', '.join(classes)}")
            return ids[np.isin(labels, [index[c] for c in settings["classes"]])]
        case "ids":
            listed = _listed(Path(settings["file"]), f"{key}.file")
            if missing := sorted(set(listed) - set(ids.tolist())):
                raise SplitError(f"{key}.file: {settings['file']} lists {missing[0]}, which is no training image")
            return np.array(listed)


def _listed(path: Path, key: str) -> list[int]:
    found = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SplitError(f"{key}: {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            if not re.fullmatch("[0-9]+", line.strip()):  # int() also takes 1_0 and other alphabets' digits
                raise SplitError(f"{key}: {path}, line {number}: {line!r} is not an id")
            found.append(int(line))
    if len(set(found)) != len(found):
        raise SplitError(f"{key}: {path} lists an id twice")
    return found
