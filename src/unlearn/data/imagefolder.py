"""A folder tree of images, one folder a class: ImageNet's layout and Tiny-ImageNet's.

``root/train/<class>/**/*.JPEG``, and for the test split either the same below ``test`` or Tiny-
ImageNet's ``val/images`` with ``val_annotations.txt`` (file name, class, box; tab separated).
Hidden files and folders, which file browsers leave behind, are no images and no classes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from unlearn.api.data import DataError, Folder, Images, Natural, Source, dataclass, decode, stack

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"}
CHUNK = 1024


@dataclass(frozen=True)
class Settings:
    root: Folder
    train: str = "train"
    test: str = "val"
    size: Natural | None = None
    mode: Literal["RGB", "L"] = "RGB"


def load(settings: Settings) -> Source:
    """Raises DataError for a missing or empty folder, an unknown class or an undecodable image."""
    root = Path(settings.root)
    train = root / settings.train
    if not train.is_dir():
        raise DataError(f"{train}: no such folder")
    classes = sorted(_folders(train))
    if not classes:
        raise DataError(f"{train}: no class folders")
    files = {"train": _by_folder(train, classes), "test": _test_files(root / settings.test, classes)}
    return Source(classes, (chunk for split in files for chunk in _chunks(split, files[split], settings)))


def _folders(folder: Path) -> set[str]:
    return {inner.name for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith(".")}


def _test_files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    annotations = folder / "val_annotations.txt"
    if not annotations.is_file():
        return _by_folder(folder, classes)
    index = {name: i for i, name in enumerate(classes)}
    found: dict[str, int] = {}
    try:
        lines = annotations.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{annotations}: is not a text file") from None
    for number, line in enumerate(lines, 1):
        name, label = (*line.split("\t"), "")[:2]
        if label not in index:
            raise DataError(f"{annotations}, line {number}: class {label!r} is not in the training folder")
        if name in found:
            raise DataError(f"{annotations}, line {number}: {name} stands twice")
        found[name] = index[label]
    return [(folder / "images" / name, label) for name, label in found.items()]


def _by_folder(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if unknown := _folders(folder) - set(classes):
        raise DataError(f"{folder}: classes {', '.join(sorted(unknown))} are not in the training folder")
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]
    if not found:
        raise DataError(f"{folder}: no images")
    return found


def _chunks(split: str, files: list[tuple[Path, int]], settings: Settings) -> Iterator[Images]:
    import numpy as np

    for start in range(0, len(files), CHUNK):
        part = files[start : start + CHUNK]
        arrays = [decode(path, settings.mode, settings.size, str(path)) for path, _ in part]
        yield Images(split, stack(arrays, settings.root), np.array([label for _, label in part]))
