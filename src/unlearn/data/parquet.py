"""Parquet files in the layout of the Hugging Face hub: an image struct (bytes, path) and a label.

Class names come from the file's schema metadata (key ``huggingface``, a ClassLabel feature).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from unlearn.api.data import Budget, DataError, File, Images, Natural, Source, dataclass, decode, stack

CHUNK = 4096


@dataclass(frozen=True)
class Settings:
    """``max_train`` and ``max_test`` take the first images of each file only."""

    train: File
    test: File
    image: str = "img"
    label: str = "label"
    size: Natural | None = None
    mode: Literal["RGB", "L"] = "RGB"
    max_train: Budget = None
    max_test: Budget = None


def load(settings: Settings) -> Source:
    """Raises DataError naming file, column or row for what cannot be read."""
    files = {"train": Path(settings.train), "test": Path(settings.test)}
    limits = {"train": settings.max_train, "test": settings.max_test}
    classes = {split: _classes(path, settings) for split, path in files.items()}
    if classes["train"] != classes["test"]:
        raise DataError(f"{files['test']}: class names differ from those of {files['train']}")
    chunks = (
        chunk
        for split in files
        for chunk in _chunks(split, files[split], limits[split], len(classes["train"]), settings)
    )
    return Source(classes["train"], chunks)


def _classes(path: Path, settings: Settings) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from None
    for column in (settings.image, settings.label):
        if column not in schema.names:
            raise DataError(f"{path}: no column {column!r}; there are {', '.join(schema.names)}")
    image = schema.field(settings.image).type
    holds_bytes = pa.types.is_struct(image) and image.get_field_index("bytes") >= 0
    if not holds_bytes or not pa.types.is_integer(schema.field(settings.label).type):
        raise DataError(f"{path}: {settings.image!r} must be a struct (bytes, path) and {settings.label!r} an integer")
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = [str(name) for name in features[settings.label]["names"]]
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}: the schema's metadata names no classes for column {settings.label!r}") from None
    return names


def _chunks(split: str, path: Path, limit: int | None, classes: int, settings: Settings) -> Iterator[Images]:
    import numpy as np

    row = 0
    for batch in _batches(path, [settings.image, settings.label]):
        batch = batch.slice(0, limit - row) if limit is not None else batch
        if not len(batch):
            break
        labels = batch.column(settings.label).to_numpy(zero_copy_only=False)
        if batch.column(settings.label).null_count or labels.min() < 0 or labels.max() >= classes:
            raise DataError(f"{path}, rows from {row}: a label is missing or not in 0…{classes - 1}")
        encoded = batch.column(settings.image).field("bytes").to_pylist()
        arrays = [
            decode(data if data is not None else b"", settings.mode, settings.size, f"{path}, row {row + i}")
            for i, data in enumerate(encoded)
        ]
        yield Images(split, stack(arrays, str(path)), labels.astype(np.int64))
        row += len(batch)


def _batches(path: Path, columns: list[str]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield from pq.ParquetFile(path).iter_batches(CHUNK, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged, or no memory to read it ({error})") from None
