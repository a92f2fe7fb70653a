"""dataset: whatever the source, one Parquet table of raw images."""

import logging
from itertools import chain
from typing import Any

import numpy as np

from unlearn.api.data import DataError, Images, Source
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET

log = logging.getLogger("unlearn")


def dataset(out: str, settings: dict[str, Any]) -> None:
    """``settings``: the source's ``name`` and its own settings. Raises DataError for bad data."""
    options = {key: value for key, value in settings.items() if key != "name"}
    where = f"data {settings['name']!r}"
    source = plugins.load("data", settings["name"]).load(plugins.settings("data", settings["name"], options))
    if not isinstance(source, Source):
        raise DataError(f"{where}: load gives a {type(source).__name__}, must give a Source")
    if len(set(source.classes)) != len(source.classes) or len(source.classes) < 2:
        raise DataError(f"{where}: needs two classes or more with names of their own, has {list(source.classes)}")
    chunks = iter(source.chunks)
    first = next(chunks, None)
    if first is None:
        raise DataError(f"{where}: needs training and test images, has none")
    shape = first.pixels.shape[1:]
    metadata = {"settings": settings, "classes": source.classes, "shape": list(shape)}
    count, labels = 0, {"train": set(), "test": set()}
    with tables.Writer(DATASET, out, metadata) as writer:
        for chunk in chain([first], chunks):
            _check(chunk, shape, len(source.classes), where)
            ids = np.arange(count, count + len(chunk.labels))
            writer.write(
                {
                    "id": ids,
                    "split": [chunk.split] * len(ids),
                    "label": chunk.labels.astype(np.int64),
                    "image": [image.tobytes() for image in chunk.pixels],
                }
            )
            count += len(ids)
            labels[chunk.split].update(chunk.labels.tolist())
        if missing := [split for split, found in labels.items() if not found]:
            raise DataError(f"{where}: needs training and test images, has none for {missing[0]}")
        if len(labels["train"]) < 2:
            raise DataError(f"{where}: all training images are of class {source.classes[labels['train'].pop()]!r}")
    log.info("%d images of shape %s in %d classes", count, tuple(shape), len(source.classes))


def _check(chunk: Images, shape: tuple[int, ...], classes: int, where: str) -> None:
    pixels, labels = chunk.pixels, chunk.labels
    if chunk.split not in ("train", "test"):
        raise DataError(f"{where}: split {chunk.split!r} is neither train nor test")
    if pixels.dtype != np.uint8 or len(shape) != 3:
        raise DataError(f"{where}: pixels are {pixels.dtype} {pixels.shape}, must be uint8 [N, C, H, W]")
    if pixels.shape[1:] != shape:
        raise DataError(f"{where}: images of shape {pixels.shape[1:]}, others have {shape}")
    if labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: labels are {labels.dtype} {labels.shape}, must be integers [{len(pixels)}]")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"{where}: a label is not in 0…{classes - 1}")
