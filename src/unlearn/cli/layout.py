"""What a folder or a file of images is: the data source that reads it, and its settings."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from unlearn.config.settings import ConfigError
from unlearn.data import torchvision

TEST_FRACTION = 0.2  # of data without a test part
TRAINING, TESTS = ("train", "training"), ("test", "val", "valid", "validation", "testing")
IMAGES, LABELS = ("image", "img"), ("label", "labels", "class", "target", "category", "fine_label")
PATHS, SPLITS = ("path", "file", "filename", "file_name", "image", "image_path"), ("split", "part", "set", "subset")
BY_HAND = "name them in the config (docs/your-data.md)"


def source(data: str) -> dict[str, Any]:
    """The ``source`` of a config that reads ``data``, a path. Raises ConfigError for what is of no known layout.

    Whether the images can be read is for the source itself to say.
    """
    path = Path(data)
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        raise ConfigError(f"{data}: no such file or folder")
    return _torchvision(path) or _parquet_folder(path) or _folders(path)


def _file(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        schema = _schema(path)
        if any(_holds_images(field) for field in schema):
            return {"name": "parquet", "train": str(path), "test_fraction": TEST_FRACTION, **_columns(schema, path)}
        values = {
            name: lambda name=name: pq.read_table(path, columns=[name])[name].to_pylist() for name in schema.names
        }
        return _table(path, schema.names, values)
    if suffix in (".csv", ".tsv"):
        try:
            with open(path, encoding="utf-8-sig", newline="") as lines:
                head, *rows = csv.reader(lines, "excel-tab" if suffix == ".tsv" else "excel")
        except (ValueError, csv.Error):  # no line, or bytes that are no text
            raise ConfigError(f"{path}: not a readable CSV file with a line of names") from None
        return _table(
            path, head, {name: lambda i=i: [row[i] for row in rows if len(row) > i] for i, name in enumerate(head)}
        )
    raise ConfigError(f"{path}: neither Parquet nor CSV nor TSV, which are the files that hold or list images")


def _table(path: Path, names: Sequence[str], values: dict[str, Any]) -> dict[str, Any]:
    own = {"path": _one(names, PATHS, path, "paths"), "label": _one(names, LABELS, path, "classes")}
    split = next((name for name in names if name.lower() in SPLITS and set(values[name]()) == {"train", "test"}), None)
    given = {key: name for key, name in own.items() if key != name}
    part = {"split": split} if split else {"test_fraction": TEST_FRACTION}
    return {"name": "table", "file": str(path), "root": str(path.parent), **given, **part}


def _one(names: Sequence[str], known: Sequence[str], path: Path, what: str) -> str:
    """The column that has the first of the known names."""
    found = [name for wanted in known for name in names if name.lower() == wanted]
    if not found:
        raise ConfigError(f"{path}: no column of {what} among {', '.join(names)}; {BY_HAND}")
    return found[0]


def _torchvision(path: Path) -> dict[str, Any] | None:
    for name in get_args(torchvision.Settings.model_fields["dataset"].annotation):
        settings = torchvision.Settings(dataset=name, root=str(path), download=False)
        if all(Path(part).exists() for part in settings.sources()):
            return {"name": "torchvision", **settings.model_dump()}
    return None


def _parquet_folder(path: Path) -> dict[str, Any] | None:
    files = sorted(path.rglob("*.parquet"))
    if not files:
        return None
    train, test = _of_split(files, TRAINING), next(filter(None, (_of_split(files, (word,)) for word in TESTS)), [])
    if test and not train:
        raise ConfigError(f"{path}: Parquet files of a test part and none of a training part; {BY_HAND}")
    columns = _columns(_schema((train or files)[0]), path)
    parts: dict[str, Any] = {"train": _pattern(train, files) if train else str(path)}
    parts |= {"test": _pattern(test, files)} if test else {"test_fraction": TEST_FRACTION}
    return {"name": "parquet", **parts, **columns}


def _of_split(files: Iterable[Path], words: Sequence[str]) -> list[Path]:
    """The files named after a split, as the hub does: train-00000.parquet, or 0000.parquet in a folder train."""
    return [file for file in files if {re.split(r"[^a-z]", file.stem.lower())[0], file.parent.name.lower()} & {*words}]


def _pattern(chosen: Sequence[Path], files: Sequence[Path]) -> str:
    """A file, a folder or a pattern that matches the chosen ones of the files and no others."""
    if len(chosen) == 1:
        return str(chosen[0])
    folder, word = chosen[0].parent, re.split("[^A-Za-z]", chosen[0].stem)[0]
    for pattern, matched in (
        (str(folder), [file for file in files if file.is_relative_to(folder)]),
        (f"{folder}/{word}*.parquet", [*folder.glob(f"{word}*.parquet")]),
    ):
        if {*matched} == {*chosen}:
            return pattern
    raise ConfigError(f"{folder}: no one pattern names {len(chosen)} Parquet files of a part; {BY_HAND}")


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: not a readable Parquet file ({error})") from None


def _holds_images(field: pa.Field) -> bool:
    return pa.types.is_struct(field.type) or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)


def _columns(schema: pa.Schema, path: Path) -> dict[str, str]:
    """The columns of images and labels where these have not the usual names."""
    found = [field.name for field in schema if _holds_images(field)]
    images = [name for name in found if name in IMAGES] or found
    if len(images) != 1:
        raise ConfigError(f"{path}: not one column of images among {', '.join(schema.names)}; {BY_HAND}")
    label = _one(schema.names, LABELS, path, "classes")
    return {**({} if images[0] in IMAGES else {"image": images[0]}), **({} if label == "label" else {"label": label})}


def _folders(path: Path) -> dict[str, Any]:
    train = next((name for name in TRAINING if (path / name).is_dir()), None)
    if not train:
        return {"name": "imagefolder", "root": str(path), "train": ".", "test_fraction": TEST_FRACTION}
    own = {} if train == "train" else {"train": train}
    # ImageNet's folder test has no classes; its labelled test images are in val.
    classes = _inside(path / train)
    for test in TESTS:
        if classes & _inside(path / test) or (path / test / "val_annotations.txt").is_file():
            return {"name": "imagefolder", "root": str(path), **own, "test": test}
    return {"name": "imagefolder", "root": str(path), "train": train, "test_fraction": TEST_FRACTION}


def _inside(folder: Path) -> set[str]:
    """The names of the folders in a folder."""
    return {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.is_dir() else set()
