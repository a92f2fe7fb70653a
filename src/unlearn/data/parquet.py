"""Parquet files in the layouts of the Hugging Face hub: a column of images, and one of labels.

Images are structs (bytes, path), plain bytes, or paths from ``root`` on. Labels are texts, or integers whose names
stand in the schema's metadata (key ``huggingface``, a ClassLabel feature) or in the setting ``classes``.
"""

import glob
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unlearn.api.data import (
    Budget,
    DataError,
    Encoded,
    Files,
    Folder,
    Fraction,
    Pictures,
    Seed,
    Source,
    divided,
    encoded,
    listed,
    stratified,
    texts,
)

CHUNK = 1024  # rows that are read at once


class Settings(Pictures):
    train: Files
    """A file, a folder of files, or a pattern such as data/train-*.parquet; shards are read in the order of names."""
    test: Files | None = None
    """The same for the test split; null where test_fraction is given."""
    test_fraction: Fraction | None = None
    """Share of the images of train, stratified by class, that is the test split."""
    image: str | None = None
    """Column of the images: image or img, unless this names another."""
    label: str = "label"
    """Column of the labels."""
    classes: tuple[str, ...] = ()
    """Class names in the order of integer labels, where the files do not hold them."""
    attributes: tuple[str, ...] = ()
    """Further columns that are kept, such as the person on a photo."""
    root: Folder | None = None
    """Folder of the images, where the files hold paths."""
    max_train: Budget = None
    """Number of training images that are kept, stratified by class."""
    max_test: Budget = None
    """Number of test images that are kept, stratified by class."""
    seed: Seed = 0
    """Seed of these draws."""


class Shard(NamedTuple):
    """A file: the column of its images, and the class index of each row, int64."""

    path: str
    image: str
    labels: np.ndarray


def load(settings: Settings) -> Source:
    """Raises DataError naming file, column or row for what cannot be read."""
    if (settings.test is None) == (settings.test_fraction is None):
        raise DataError(f"{settings.train}: needs either test files (`test`) or a share for the test (`test_fraction`)")
    paths = {"train": _paths(settings.train), "test": _paths(settings.test) if settings.test else []}
    if both := {*map(os.path.realpath, paths["train"])} & {*map(os.path.realpath, paths["test"])}:
        raise DataError(f"{min(both)}: is a training and a test file; `test_fraction` divides the images of a file")
    schemas = {path: _schema(path, settings) for of_split in paths.values() for path in of_split}
    classes = _classes(schemas, paths["train"], settings)
    shards = {
        split: [Shard(path, _image(schemas[path], settings), _labels(path, classes, settings)) for path in of_split]
        for split, of_split in paths.items()
    }
    base = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in schemas])
    parts = {
        split: _images(shards[split if settings.test else "train"], wanted, base, settings)
        for split, wanted in _chosen(shards, settings).items()
    }
    return encoded(classes, parts, settings)


def _paths(pattern: str) -> list[str]:
    if os.path.isfile(pattern):
        return [pattern]
    folder = os.path.isdir(pattern)
    found = glob.glob(f"{glob.escape(pattern)}/**/*.parquet" if folder else pattern, recursive=True)
    if not (files := sorted(filter(os.path.isfile, found))):
        raise DataError(f"{pattern}: {'no Parquet files in it' if folder else 'no such file'}")
    return files


def _schema(path: str, settings: Settings) -> pa.Schema:
    """The schema of a file. Raises DataError unless its columns are there, of types that can be read."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from None
    wanted = [settings.image] if settings.image else ["image", "img"]
    images = [name for name in wanted if name in schema.names]
    missing = [] if images else [" or ".join(map(repr, wanted))]
    missing += [repr(name) for name in (settings.label, *settings.attributes) if name not in schema.names]
    if missing:
        raise DataError(f"{path}: no column {missing[0]}; there are {', '.join(schema.names)}")
    if len(images) > 1:
        raise DataError(f"{path}: has columns 'image' and 'img'; say which with `image`")
    image, label = _image(schema, settings), _plain(schema.field(settings.label).type)
    kind = schema.field(image).type
    fields = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    if not ({"bytes", "path"} & set(fields) or _texts(kind) or _bytes(kind)):
        raise DataError(f"{path}: {image!r} holds {kind}, must be a struct (bytes, path), bytes or paths")
    if not (pa.types.is_integer(label) or _texts(label)):
        raise DataError(f"{path}: {settings.label!r} holds {label}, must be integers or texts")
    return schema


def _image(schema: pa.Schema, settings: Settings) -> str:
    return settings.image or ("image" if "image" in schema.names else "img")


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _texts(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _classes(schemas: dict[str, pa.Schema], training: list[str], settings: Settings) -> list[str]:
    """The class names, by index. Raises DataError where files hold different ones, or nothing names integers."""
    first, *others = schemas
    known = _named(schemas[first], settings)
    for path in others:
        if _named(schemas[path], settings) != known:
            raise DataError(f"{path}: class names differ from those of {first}")
    if known and list(settings.classes) not in ([], known):
        raise DataError(f"{first}: names its classes otherwise than `classes` does: {listed(known)}")
    if names := known or list(settings.classes):
        return names
    if all(_texts(_plain(schema.field(settings.label).type)) for schema in schemas.values()):
        return sorted({label for path in training for label in _column(path, settings.label)} - {None})
    raise DataError(
        f"{first}: the schema's metadata names no classes for column {settings.label!r}; list them with `classes`"
    )


def _named(schema: pa.Schema, settings: Settings) -> list[str]:
    """The class names in the metadata of a file; none if it has none."""
    try:
        return list(map(str, json.loads(schema.metadata[b"huggingface"])["info"]["features"][settings.label]["names"]))
    except (KeyError, TypeError, ValueError):
        return []


def _labels(path: str, classes: list[str], settings: Settings) -> np.ndarray:
    """The class index of each row, from its number or its name."""
    index: dict[Any, int] = {name: i for i, name in enumerate(classes)} | {i: i for i in range(len(classes))}
    values = [index.get(value) for value in _column(path, settings.label)]
    if wrong := [str(row) for row, value in enumerate(values) if value is None]:
        what = f"no label, or one that is none of the {len(classes)} classes"
        raise DataError(f"{path}: {len(wrong)} rows have {what}: rows {listed(wrong)}")
    return np.array(values, np.int64)


def _column(path: str, name: str) -> list[Any]:
    return [value for batch in _batches(path, [name]) for value in batch.column(0).to_pylist()]


def _batches(path: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from pq.ParquetFile(path).iter_batches(CHUNK, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged, or no memory to read it ({error})") from None


def _chosen(shards: dict[str, list[Shard]], settings: Settings) -> dict[str, np.ndarray]:
    """Split → which of the rows of its files it holds, bool."""
    labels = {split: np.concatenate([s.labels for s in of_split] or [[]]) for split, of_split in shards.items()}
    if settings.test_fraction is None:
        chosen = {split: np.arange(len(of_split)) for split, of_split in labels.items()}
    else:
        chosen = divided(labels["train"], settings.test_fraction, settings.seed)
        labels["test"] = labels["train"]
    wanted = {}
    for split, limit in (("train", settings.max_train), ("test", settings.max_test)):
        kept = chosen[split][stratified(labels[split][chosen[split]], limit, settings.seed)]
        wanted[split] = np.isin(np.arange(len(labels[split])), kept)
    return wanted


def _images(shards: list[Shard], wanted: np.ndarray, base: str, settings: Settings) -> Iterator[Encoded]:
    start = 0
    for path, image, labels in shards:
        row, shard = 0, os.path.relpath(path, base)
        for batch in _batches(path, [image, *settings.attributes]):
            kept = np.flatnonzero(wanted[start + row :][: len(batch)])
            part = batch.take(pa.array(kept))
            columns = {name: texts(part.column(name), f"{path}, column {name!r}") for name in settings.attributes}
            for i, cell in enumerate(part.column(image).to_pylist()):
                number = row + int(kept[i])
                where = f"{path}, row {number}"
                data, origin = _data(cell, where, settings)
                attributes = {attribute: values[i] for attribute, values in columns.items()}
                yield Encoded(data, int(labels[number]), origin or f"{shard}:{number}", where, attributes)
            row += len(batch)
        start += len(labels)


def _data(cell: Any, where: str, settings: Settings) -> tuple[bytes | Path | None, str]:
    """The bytes or the path of an image, and the path again as its origin."""
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if isinstance(content, str):
        content, path = None, content
    if content is not None or not path:
        return content, ""
    if settings.root is None:
        raise DataError(f"{where}: holds a path ({path}) and no bytes; say with `root` what folder it is in")
    return Path(settings.root, path), path
