"""dataset: whatever the source, one Parquet table of raw images."""

import logging
from itertools import chain
from typing import Any

import numpy as np

from unlearn import registry, schema, tables
from unlearn.data import DataError
from unlearn.provenance import record

log = logging.getLogger("unlearn")


def dataset(out: str, settings: dict[str, Any]) -> None:
    """``settings``: the source's ``name`` and its own settings. Raises DataError for bad data."""
    options = {key: value for key, value in settings.items() if key != "name"}
    source = registry.load("data", settings["name"]).load(registry.settings("data", settings["name"], options))
    chunks = iter(source.chunks)
    first = next(chunks, None)
    if first is None:
        raise DataError(f"{settings['name']}: needs training and test images, has none")
    shape = first.pixels.shape[1:]
    metadata = record(settings, classes=source.classes, shape=list(shape))
    count, splits = 0, []
    with tables.Writer(schema.DATASET, out, metadata) as writer:
        for chunk in chain([first], chunks):
            if chunk.pixels.dtype != np.uint8 or chunk.pixels.shape[1:] != shape:
                raise DataError(f"{settings['name']}: images of shape {chunk.pixels.shape[1:]}, others have {shape}")
            if len(chunk.labels) and not 0 <= chunk.labels.min() <= chunk.labels.max() < len(source.classes):
                raise DataError(f"{settings['name']}: a label is not in 0…{len(source.classes) - 1}")
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
            splits.append(chunk.split)
        if set(splits) != {"train", "test"}:
            raise DataError(f"{settings['name']}: needs training and test images, has {sorted(set(splits))}")
    log.info("%d images of shape %s in %d classes", count, tuple(shape), len(source.classes))
