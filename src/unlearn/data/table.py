"""A table, CSV or Parquet, with a row for each image: its path from ``root`` on, its class, and what else is known.

All cells are texts as they stand: a class 007 stays 007.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unlearn.api.data import (
    DataError,
    Encoded,
    File,
    Folder,
    Fraction,
    Pictures,
    Seed,
    Source,
    divided,
    encoded,
    listed,
    texts,
)

Cells = Mapping[str, list[str | None]]


class Settings(Pictures):
    file: File
    """A CSV file with a line of names (.tsv: tabs between cells), or a Parquet file."""
    root: Folder
    """Folder from which paths begin."""
    path: str = "path"
    """Column of the paths."""
    label: str = "label"
    """Column of the classes."""
    split: str | None = None
    """Column that holds train or test; null where test_fraction is given."""
    test_fraction: Fraction | None = None
    """Share of the images, stratified by class, that is the test split."""
    seed: Seed = 0
    """Seed of that draw."""
    classes: tuple[str, ...] = ()
    """Class names in the order that they get; without them it is that of texts."""
    attributes: tuple[str, ...] = ()
    """Further columns that are kept, such as the person on a photo."""


def load(settings: Settings) -> Source:
    """Raises DataError naming file, and column or row, for what cannot be read."""
    file = settings.file
    if (settings.split is None) == (settings.test_fraction is None):
        raise DataError(f"{file}: needs either a column that holds train or test (`split`) or `test_fraction`")
    names = [settings.path, settings.label, *([settings.split] if settings.split else []), *settings.attributes]
    parquet = Path(file).suffix.lower() == ".parquet"
    cells = _parquet(file, names) if parquet else _csv(file, names)
    paths, labels = cells[settings.path], cells[settings.label]

    def refuse(wrong: list[bool], problem: str) -> None:
        """Raise DataError naming the rows that are wrong: the lines of a CSV file, whose second is its first row."""
        rows = [f"row {row}" if parquet else f"line {row + 2}" for row, bad in enumerate(wrong) if bad]
        if rows:
            raise DataError(f"{file}: {problem} in {listed(rows)}")

    refuse([not path or not label for path, label in zip(paths, labels, strict=True)], "no path or no label")
    counts = Counter(paths)
    refuse([counts[path] > 1 for path in paths], "one path twice,")
    below = [not Path(path).is_absolute() and ".." not in Path(path).parts for path in paths]
    refuse([not inside for inside in below], f"a path not below {settings.root}")
    classes = list(settings.classes) or sorted(set(labels))
    refuse([label not in classes for label in labels], "a label that is none of `classes`")
    if settings.split:
        splits = np.array(cells[settings.split], object)
        refuse([split not in ("train", "test") for split in splits], f"neither train nor test as {settings.split!r}")
        chosen = {split: np.flatnonzero(splits == split) for split in ("train", "test")}
    else:
        chosen = divided(np.array(labels), settings.test_fraction, settings.seed)

    def image(row: int) -> Encoded:
        attributes = {name: cells[name][row] for name in settings.attributes}
        path = Path(settings.root, paths[row])
        return Encoded(path, classes.index(labels[row]), paths[row], str(path), attributes)

    return encoded(classes, {split: map(image, rows) for split, rows in chosen.items()}, settings)


def _csv(file: str, names: list[str]) -> Cells:
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            found = list(csv.reader(lines, "excel-tab" if file.lower().endswith(".tsv") else "excel", strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: not a readable CSV file ({error})") from None
    head, *rows = found or [[]]
    _there(file, names, head)
    if wrong := [f"line {number}" for number, row in enumerate(rows, 2) if len(row) != len(head)]:
        raise DataError(f"{file}: not {len(head)} cells, as the line of names has, in {listed(wrong)}")
    return {name: [row[head.index(name)] for row in rows] for name in names}


def _parquet(file: str, names: list[str]) -> Cells:
    try:
        _there(file, names, pq.read_schema(file).names)
        table = pq.read_table(file, columns=names, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file ({error})") from None
    return {name: texts(table[name], f"{file}, column {name!r}") for name in names}


def _there(file: str, names: list[str], head: list[str]) -> None:
    if missing := [name for name in names if head.count(name) != 1]:
        raise DataError(f"{file}: not one column {missing[0]!r}; there are {', '.join(head)}")
