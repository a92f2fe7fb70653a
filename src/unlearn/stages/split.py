"""split: which training images are to be forgotten. One split serves every later stage."""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unlearn.api.data import listed
from unlearn.io import tables
from unlearn.io.schema.composition import COMPOSITION
from unlearn.io.schema.dataset import DATASET
from unlearn.io.schema.split import SPLIT
from unlearn.sampling import stratified

ROLES = ("forget", "retain", "test")
LOGGED = 10  # values of an attribute that the log names
log = logging.getLogger("unlearn")


class SplitError(ValueError):
    """A forget set that cannot be used; the message names the key."""


def split(dataset: str, out: str, forget: str, settings: dict[str, Any], composition: str | None = None) -> None:
    """``settings``: kind random (fraction, seed, stratified, within), class (classes), where (column, values), files
    or ids (file). ``composition``: the table of what the forget set is made of.

    Raises SplitError for a forget set that is empty, is everything but one class, or names what is not there.
    """
    table = tables.read(DATASET, dataset, without=["image"])
    images = table.to_pandas()
    classes, key = tables.metadata(dataset)["classes"], f"settings.forgets.{forget}"
    training = images[images["split"] == "train"]
    chosen = _choose(images, training, classes, settings, key)
    if not 0 < len(chosen) < len(training):
        raise SplitError(f"{key}: forgets {len(chosen)} of {len(training)} training images")
    forgotten = images["id"].isin(chosen)
    role = np.where(images["split"] == "test", "test", np.where(forgotten, "forget", "retain"))
    if images["label"][role == "retain"].nunique() < 2:
        raise SplitError(f"{key}: what it retains is of one class, and a fairness-gap needs two")
    tables.write(SPLIT, out, {"id": images["id"], "role": role}, {"settings": settings, "forget": forget})
    log.info("%s: forget %d, retain %d, test %d", forget, *((role == r).sum() for r in ROLES))
    made = composed(images, role, classes, [n for n in table.schema.names if n not in DATASET.schema.names])
    _log(forget, made)
    if composition:
        tables.write(COMPOSITION, composition, made.assign(forget=forget), {"settings": settings})


def composed(
    images: pd.DataFrame, roles: np.ndarray, classes: Sequence[str], attributes: Sequence[str]
) -> pd.DataFrame:
    """What a forget set is made of: rows of the table composition, without its column forget.

    A row counts a group of images by role: all; each class; each value of each attribute; and the "copies of" each
    role, which are the images that another image of that role equals pixel by pixel (a role's own images are copies
    where two of them are equal).
    """
    role = pd.Series(roles, images.index, name="role")  # no column: an attribute may have its name
    groups = [("all", pd.Series(None, images.index, object)), ("class", images["label"].map(classes.__getitem__))]
    groups += [(name, images[name]) for name in attributes]
    parts = [
        images.groupby([values.rename("value"), role], dropna=False).size().unstack(fill_value=0).assign(by=name)
        for name, values in groups
    ]
    for name in ROLES:
        own = role == name
        equal = images["digest"].map(images.loc[own, "digest"].value_counts()).fillna(0) - own
        copies = role[equal > 0].value_counts()
        parts.append(pd.DataFrame([copies], pd.Index([name], name="value")).assign(by="copies of"))
    table = pd.concat([part.reindex(columns=["by", *ROLES]) for part in parts]).reset_index()
    counts = table[list(ROLES)].fillna(0).astype("int64").rename(columns={"forget": "forgotten", "retain": "retained"})
    trained, total = counts["forgotten"] + counts["retained"], role.value_counts()
    shares = {
        "share_of_forgotten": counts["forgotten"] / total["forget"],
        "share_of_training": trained / (total["forget"] + total["retain"]),
    }
    return pd.concat([table[["by", "value"]].astype({"value": "string"}), counts.assign(**shares)], axis=1)


def _log(forget: str, made: pd.DataFrame) -> None:
    copies = made[made["by"] == "copies of"].set_index("value")
    for by, group in made[~made["by"].isin(["all", "copies of"])].groupby("by", sort=False):
        taken = group[group["forgotten"] > 0].sort_values("forgotten", ascending=False, kind="stable")
        for row in taken.head(LOGGED).itertuples():
            counts = f"{row.forgotten} of {row.forgotten + row.retained} training images forgotten"
            shares = f"{row.share_of_forgotten:.1%} of the set, {row.share_of_training:.1%} of the training images"
            log.info("%s: %s %s: %s (%s)", forget, by, row.value, counts, shares)
        if len(taken) > LOGGED:
            log.info("%s: %s: and %d more values", forget, by, len(taken) - LOGGED)
    for one, other in (("forget", "retained"), ("forget", "test"), ("retain", "test")):
        if count := copies.loc[one, other]:
            log.warning("%s: %d %s images equal images of the %s set pixel by pixel", forget, count, other, one)


# --- kinds of forget sets -------------------------------------------------------------------------


def _choose(
    images: pd.DataFrame, training: pd.DataFrame, classes: list[str], settings: dict[str, Any], key: str
) -> np.ndarray:
    """The ids of the images to forget."""
    match settings["kind"]:
        case "random":
            pool = _within(training, classes, settings.get("within") or {}, f"{key}.within")
            count = round(settings["fraction"] * len(pool))
            if settings.get("stratified"):
                return pool["id"].to_numpy()[stratified(pool["label"].to_numpy(), count, settings["seed"])]
            return np.random.default_rng(settings["seed"]).choice(pool["id"].to_numpy(), count, replace=False)
        case "class" | "where":
            return _within(training, classes, settings, key)["id"].to_numpy()
        case "ids":
            known = training["id"].tolist()
            found = _listed(Path(settings["file"]), f"{key}.file", _id)
            if missing := sorted(set(found) - set(known)):
                raise SplitError(f"{key}.file: {settings['file']} lists {missing[0]}, which is no training image")
            return np.array(found)
        case "files":
            return _named(images, training, Path(settings["file"]), f"{key}.file")


def _within(training: pd.DataFrame, classes: list[str], settings: dict[str, Any], key: str) -> pd.DataFrame:
    """The training images of some ``classes``, or of some ``values`` of a ``column``; all if neither is named."""
    if settings.get("classes"):
        wanted = {_class(name, classes, f"{key}.classes") for name in settings["classes"]}
        return training[training["label"].isin(wanted)]
    if not settings.get("column"):
        return training
    column, values = settings["column"], [_composed(str(value)) for value in settings["values"]]
    attributes = [name for name in training.columns if name not in DATASET.schema.names]
    if column not in attributes:
        there = f"there are {', '.join(attributes)}" if attributes else "the source keeps none (its key `attributes`)"
        raise SplitError(f"{key}.column: no attribute {column!r}; {there}")
    found = training[column].dropna().map(_composed)
    if unknown := [value for value in values if not (found == value).any()]:
        known = listed(sorted(set(found)))
        raise SplitError(f"{key}.values: no training image has {column} {listed(unknown)}; there are {known}")
    return training.loc[found.index[found.isin(values)]]


def _class(given: int | str, classes: list[str], key: str) -> int:
    """The index of a class. A text is a name. A number is a position, or the name that is written as that number;
    where these are different classes, it is neither."""
    if isinstance(given, str):
        names = [_composed(name) for name in classes]
        if _composed(given) not in names:
            raise SplitError(f"{key}: {given!r} is none of {listed(classes)}")
        return names.index(_composed(given))
    found = [i for i, name in enumerate(classes) if re.fullmatch("[0-9]+", name) and int(name) == given]
    found += [given] if 0 <= given < len(classes) and given not in found else []
    if not found:
        raise SplitError(f"{key}: {given} is neither a position (0 to {len(classes) - 1}) nor one of {listed(classes)}")
    if len(found) > 1:
        readings = " or ".join(f'"{classes[i]}"' for i in found)
        raise SplitError(f"{key}: {given} is the name of one class and the position of another; write {readings}")
    return found[0]


def _listed(path: Path, key: str, read: Callable[[str, str], Any]) -> list[Any]:
    """What the lines of a file name, each read by ``read(line, where)``."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SplitError(f"{key}: {path}: {error}") from None
    where = f"{key}: {path}, line"
    found = [read(line, f"{where} {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if twice := [item for item, count in Counter(found).items() if count > 1]:
        raise SplitError(f"{key}: {path} lists {twice[0]} twice")
    return found


def _id(line: str, where: str) -> int:
    if not re.fullmatch("[0-9]+", line.strip()):  # int() also takes 1_0 and other alphabets' digits
        raise SplitError(f"{where}: {line!r} is not an id")
    return int(line)


def _named(images: pd.DataFrame, training: pd.DataFrame, path: Path, key: str) -> np.ndarray:
    """The ids of the training images whose origins, or whose names without folders, a file lists."""
    names = _listed(path, key, lambda line, where: _composed(line.strip()).removeprefix("./"))
    ids: dict[str, set[int]] = {}
    for identity, origin in zip(training["id"], training["origin"].map(_composed), strict=True):
        ids.setdefault(origin, set()).add(identity)
        ids.setdefault(origin.rpartition("/")[2], set()).add(identity)
    tests = set(images.loc[images["split"] == "test", "origin"].map(_composed))
    tests |= {origin.rpartition("/")[2] for origin in tests}
    problems = {
        "test images": [name for name in names if name not in ids and name in tests],
        "no training images": [name for name in names if name not in ids and name not in tests],
        "names of several images": [name for name in names if len(ids.get(name, ())) > 1],
    }
    if wrong := [f"{len(found)} {what}: {listed(found)}" for what, found in problems.items() if found]:
        example = f"a path is written as {training['origin'].iloc[0]}"
        raise SplitError(f"{key}: {path} lists {'; '.join(wrong)} ({example})")
    found = [next(iter(ids[name])) for name in names]
    counts = Counter(found)
    if twice := [name for name, identity in zip(names, found, strict=True) if counts[identity] > 1]:
        raise SplitError(f"{key}: {path} lists one image as {listed(twice)}")
    return np.array(found)


def _composed(text: str) -> str:
    """The text in Unicode's composed form, NFC: macOS takes names apart (e + ´)."""
    return unicodedata.normalize("NFC", text)
