"""dataset: whatever the source, one Parquet table of raw images."""

import logging
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np

from unlearn.api.data import DataError, Images, Source, listed
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET

SPLITS = ("train", "test")
GROUPS = {"all", "class", "copies of"}  # of images, in the table composition, which names attributes beside them
log = logging.getLogger("unlearn")


def dataset(out: str, settings: dict[str, Any]) -> None:
    """``settings``: the source's ``name`` and its own settings.

    Raises DataError for bad data: among others a class without training or test images, unless the source allows it,
    and test images that are all training images too.
    """
    options = {key: value for key, value in settings.items() if key != "name"}
    where = f"data {settings['name']!r}"
    source = plugins.load("data", settings["name"]).load(plugins.settings("data", settings["name"], options))
    if not isinstance(source, Source):
        raise DataError(f"{where}: load gives a {type(source).__name__}, must give a Source")
    if len(set(source.classes)) != len(source.classes) or len(source.classes) < 2:
        raise DataError(f"{where}: needs two classes or more with names of their own, has {list(source.classes)}")
    check_names(source.classes, where)
    chunks = iter(source.chunks)
    first = next(chunks, None)
    if first is None:
        raise DataError(f"{where}: needs training and test images, has none")
    if taken := GROUPS.intersection(first.attributes):
        raise DataError(f"{where}: an attribute cannot be called {min(taken)!r}")
    shape = first.pixels.shape[1:]
    metadata = {"settings": settings, "classes": source.classes, "shape": list(shape)}
    counts = {split: np.zeros(len(source.classes), int) for split in SPLITS}
    digests: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    with tables.Writer(DATASET.with_texts(list(first.attributes)), out, metadata) as writer:
        for chunk in chain([first], chunks):
            _check(chunk, shape, len(source.classes), where)
            start, of_split = sum(map(sum, counts.values())), sum(counts[chunk.split])
            images = [image.tobytes() for image in chunk.pixels]
            numbered = (f"{chunk.split}:{of_split + i}" for i in range(len(images)))
            digests[chunk.split].append(np.array(list(map(digest, images)), np.int64))
            writer.write(
                {
                    "id": np.arange(start, start + len(images)),
                    "split": chunk.split,
                    "label": chunk.labels.astype(np.int64),
                    "origin": chunk.origins if chunk.origins is not None else list(numbered),
                    "digest": digests[chunk.split][-1],
                    "image": images,
                    **chunk.attributes,
                }
            )
            counts[chunk.split] += np.bincount(chunk.labels, minlength=len(source.classes))
        _check_counts(source, counts, where)
        _check_copies(digests, where)
    left = {reason: count for reason, count in source.left_out.items() if count}
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(left.items(), key=lambda item: -item[1]))
    read = sum(map(sum, counts.values()))
    log.info("%d read, %d left out%s", read, sum(left.values()), f": {reasons}" * bool(reasons))
    log.info("%d images of shape %s in %d classes", read, tuple(shape), len(source.classes))
    for label, name in enumerate(source.classes):
        log.info("class %s: %d training images, %d test images", name, *(counts[split][label] for split in SPLITS))


def check_names(classes: Sequence[str], where: str) -> None:
    """Two spellings of one class are no two classes. Case may tell classes apart, as letters of an alphabet."""
    for meant, alike in ((_spelt, True), (lambda name: _spelt(name).casefold(), False)):
        by_meaning: dict[str, str] = {}
        for name in classes:
            if (other := by_meaning.setdefault(meant(name), name)) == name:
                continue
            if alike:
                raise DataError(f"{where}: classes {other!r} and {name!r} differ in spaces or Unicode forms only")
            log.warning("classes %r and %r differ in case only", other, name)


def _spelt(name: str) -> str:
    return unicodedata.normalize("NFC", " ".join(name.split()))


def digest(image: bytes) -> int:
    """Tells images apart: 64 bits of BLAKE2b of the pixels."""
    return int.from_bytes(blake2b(image, digest_size=8).digest(), "big", signed=True)


def _check_counts(source: Source, counts: dict[str, np.ndarray], where: str) -> None:
    """``counts``: split → images of each class."""
    if missing := [split for split in SPLITS if not counts[split].any()]:
        raise DataError(f"{where}: needs training and test images, has none for {missing[0]}")
    if (counts["train"] > 0).sum() < 2:
        raise DataError(f"{where}: all training images are of class {source.classes[counts['train'].argmax()]!r}")
    named = {split: [source.classes[label] for label in np.flatnonzero(counts[split] == 0)] for split in SPLITS}
    gaps = [f"no {split} images in {listed(names)}" for split, names in named.items() if names]
    for gap in gaps:
        log.warning(gap)
    if gaps and source.empty_classes != "allow":
        raise DataError(f"{where}: {', '.join(gaps)}; `empty_classes: allow` goes on")


def _check_copies(digests: dict[str, list[np.ndarray]], where: str) -> None:
    """``digests``: split → those of its images, by chunks."""
    train, test = (np.concatenate(digests[split]) for split in SPLITS)
    copies = int(np.isin(test, train).sum())
    if copies == len(test):
        raise DataError(f"{where}: all {copies} test images are training images too, pixel by pixel")
    if copies:
        log.warning("%d of %d test images are training images too, pixel by pixel", copies, len(test))


def _check(chunk: Images, shape: tuple[int, ...], classes: int, where: str) -> None:
    pixels, labels = chunk.pixels, chunk.labels
    if chunk.split not in SPLITS:
        raise DataError(f"{where}: split {chunk.split!r} is neither train nor test")
    if pixels.dtype != np.uint8 or len(shape) != 3:
        raise DataError(f"{where}: pixels are {pixels.dtype} {pixels.shape}, must be uint8 [N, C, H, W]")
    if pixels.shape[1:] != shape:
        raise DataError(f"{where}: images of shape {pixels.shape[1:]}, others have {shape}")
    if labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: labels are {labels.dtype} {labels.shape}, must be integers [{len(pixels)}]")
    for name, values in {"origins": chunk.origins, **chunk.attributes}.items():
        if values is not None and len(values) != len(pixels):
            raise DataError(f"{where}: {len(values)} {name} of {len(pixels)} images")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"{where}: a label is not in 0…{classes - 1}")
