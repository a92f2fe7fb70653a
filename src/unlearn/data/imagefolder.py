"""A folder tree of images, one folder a class: ImageNet's layout and Tiny-ImageNet's.

``root/train/<class>/**/*.JPEG``, and for the test split either the same below ``test`` or Tiny-
ImageNet's ``val/images`` with ``val_annotations.txt`` (file name, class, box; tab separated); or one folder alone, of
which ``test_fraction`` is the test split. Whatever Pillow can open is read, links are followed. Hidden files and
folders, which file browsers leave behind, are no images and no classes. What is not read is counted by its reason.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from unlearn.api.data import DataError, Encoded, Folder, Fraction, Pictures, Seed, Source, divided, encoded, text

Labelled = tuple[Path, int]
# What other systems leave behind, with images in it: Synology's thumbnails, macOS's archives, bins.
FOREIGN = {"@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found"}


class Settings(Pictures):
    root: Folder
    train: str = "train"
    """Folder of the training split below root; "." for root itself."""
    test: str | None = None
    """Folder of the test split below root: val, unless test_fraction is given."""
    test_fraction: Fraction | None = None
    """Share of the training folder's images, stratified by class, that is the test split."""
    seed: Seed = 0
    """Seed of that draw."""


def load(settings: Settings) -> Source:
    """Raises DataError for a missing or empty folder, an unknown class or an undecodable image."""
    root, left_out = Path(settings.root), Counter()
    train, test = root / settings.train, root / (settings.test or "val")
    if not train.is_dir():
        raise DataError(f"{train}: no such folder")
    if settings.test_fraction is None and test.resolve().is_relative_to(train.resolve()):
        raise DataError(f"{test}: the test images lie in the training folder {train}; `test_fraction` divides a folder")
    if settings.test_fraction is not None and settings.test is not None:
        raise DataError(f"{root}: test ({settings.test}) and test_fraction exclude each other")
    folders = _classes(train, left_out)
    if not folders:
        raise DataError(f"{train}: no class folders")
    classes = sorted(folders)
    found = {"train": _by_folder(train, folders, classes, left_out)}
    if settings.test_fraction is None:
        found["test"] = _test_files(test, classes, left_out)
    else:
        chosen = divided(np.array([label for _, label in found["train"]]), settings.test_fraction, settings.seed)
        found = {split: [found["train"][i] for i in indices] for split, indices in chosen.items()}
    parts = {
        split: [Encoded(path, label, text(path.relative_to(root)), text(path)) for path, label in files]
        for split, files in found.items()
    }
    return encoded(classes, parts, settings, left_out)


def _classes(folder: Path, left_out: Counter[str]) -> dict[str, Path]:
    """Class → its folder. macOS takes names apart (e + ´), so that two that look the same differ; here they do not."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for inner in _entries(folder, left_out):
        name = unicodedata.normalize("NFC", text(inner.name))
        if not inner.is_dir():
            left_out["beside the classes"] += 1
        elif name in found:
            raise DataError(f"{inner}: a second folder of class {name!r}")
        else:
            found[name] = inner
    return found


def _entries(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """What lies in a folder, in order; hidden and broken entries are counted instead."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name in FOREIGN:
            left_out["hidden"] += 1
        elif not entry.exists():
            left_out["broken link"] += 1
        else:
            yield entry


def _images(folder: Path, left_out: Counter[str], above: Sequence[Path] = ()) -> Iterator[Path]:
    """The files below a folder that Pillow can open, in order; the others are counted by their extension."""
    place = folder.resolve()
    above = above or place.parents
    if place in above:
        left_out["link to a folder above"] += 1
        return
    for entry in _entries(folder, left_out):
        if entry.is_dir():
            yield from _images(entry, left_out, (*above, place))
        elif not entry.is_file():
            left_out["no regular file"] += 1
        elif entry.suffix.lower() in _readable():
            yield entry
        else:
            left_out[text(entry.suffix.lower()) or "no extension"] += 1


@cache
def _readable() -> set[str]:
    """The extensions of Pillow's that it can open (some it can only write)."""
    from PIL import Image

    return {extension for extension, form in Image.registered_extensions().items() if form in Image.OPEN}


def _by_folder(folder: Path, folders: dict[str, Path], classes: list[str], left_out: Counter[str]) -> list[Labelled]:
    if unknown := folders.keys() - set(classes):
        raise DataError(f"{folder}: classes {', '.join(sorted(unknown))} are not in the training folder")
    index = {name: i for i, name in enumerate(classes)}
    files = [(path, index[name]) for name in sorted(folders) for path in _images(folders[name], left_out)]
    if not files:
        counts = ", ".join(f"{reason} {count}" for reason, count in left_out.items() if count)
        raise DataError(f"{folder}: no images (left out: {counts or 'nothing'})")
    return files


def _test_files(folder: Path, classes: list[str], left_out: Counter[str]) -> list[Labelled]:
    if (folder / "val_annotations.txt").is_file():
        return _annotated(folder, classes, left_out)
    return _by_folder(folder, _classes(folder, left_out), classes, left_out)


def _annotated(folder: Path, classes: list[str], left_out: Counter[str]) -> list[Labelled]:
    """Tiny-ImageNet's test images."""
    annotations, index = folder / "val_annotations.txt", {name: i for i, name in enumerate(classes)}
    labels: dict[str, int] = {}
    try:
        lines = annotations.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{annotations}: is not a text file") from None
    for number, line in enumerate(lines, 1):
        name, label = (*line.split("\t"), "")[:2]
        if label not in index:
            raise DataError(f"{annotations}, line {number}: class {label!r} is not in the training folder")
        if name in labels:
            raise DataError(f"{annotations}, line {number}: {name} stands twice")
        labels[name] = index[label]
    if (folder / "images").is_dir():
        there = {path.name for path in _images(folder / "images", left_out)}
        left_out["not in val_annotations.txt"] += len(there - labels.keys())
    return [(folder / "images" / name, label) for name, label in labels.items()]
