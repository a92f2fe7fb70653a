"""Sources: files and folders that settings name and no job makes, such as data and lists of ids.

The state of a source is a digest of its *listing* (names, sizes and times), the sha256 of its *content* (names and
contents) and the number of its *files*. As long as the listing is the same, nothing is read. Hidden files and folders
are left out: file browsers and file systems put them everywhere. Links are followed. A source may be a pattern such as
``train-*.parquet``, which stands for what it matches.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from glob import glob, has_magic
from itertools import takewhile
from pathlib import Path
from typing import Any


def there(path: str | Path) -> bool:
    """Whether a source is there: a file, a folder, or what a pattern matches."""
    return os.path.exists(path) or bool(glob(str(path), recursive=True))


def listing(path: str | Path) -> str:
    """A digest of the names, sizes and times of a source's files; of nothing if it is gone."""
    return _digest((name, size, mtime) for name, size, mtime in _entries(path))


def state(path: str | Path) -> dict[str, Any]:
    """What a source is now, read in full: ``listing``, ``sha256``, ``files``. The sha256 of a single file is its own.

    Raises OSError for a file that cannot be read.
    """
    before = listing(path)  # what changes from here on makes the listing differ the next time
    if os.path.isfile(path):
        return {"listing": before, "sha256": sha256(path), "files": 1}
    names, folder = [name for name, *_ in _entries(path)], _folder(path)
    files = [name for name in names if not name.endswith("/")]
    contents = _digest((name, "" if name.endswith("/") else sha256(f"{folder}/{name}")) for name in names)
    return {"listing": before, "sha256": contents, "files": len(files)}


def sha256(path: str | Path) -> str:
    """The digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def walk(folder: str | Path, above: tuple = ()) -> Iterator[tuple[str, list[str]]]:
    """A folder and each one below it, in order, with the sorted names of its files. Links are followed, but not to a
    folder that holds them; what is closed to this user is left out."""
    try:
        found = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    if (place := (found.st_dev, found.st_ino)) not in above:
        yield str(folder), [entry.name for entry in entries if not entry.is_dir()]
        for entry in entries:
            if entry.is_dir():
                yield from walk(entry.path, (*above, place))


def _folder(path: str | Path) -> str:
    """The folder that names begin from: that of a pattern is the last one before a wildcard."""
    if os.path.exists(path):
        return str(path)
    return str(Path(*takewhile(lambda part: not has_magic(part), Path(path).parts)))


def _entries(path: str | Path) -> Iterator[tuple[str, int, int]]:
    """(name, size, mtime_ns) of the files of a source, named from its folder on, and ("name/", 0, 0) of the folders:
    an empty one may be a class."""
    if os.path.isfile(path):
        found = os.stat(path)
        yield "", found.st_size, found.st_mtime_ns
        return
    if not os.path.exists(path):
        for match in sorted(glob(str(path), recursive=True)):
            inner = os.path.relpath(match, _folder(path))
            yield from ((f"{inner}/{name}".rstrip("/"), *more) for name, *more in _entries(match))
        return
    for folder, names in walk(path):
        inner = folder.removeprefix(str(path)).lstrip("/") + "/" * (folder != str(path))
        if any(part.startswith(".") for part in inner.split("/")):
            continue
        yield inner or "./", 0, 0
        for name in names:
            if not name.startswith("."):
                with suppress(FileNotFoundError):  # a link that leads nowhere
                    found = os.stat(f"{folder}/{name}")
                    if stat.S_ISREG(found.st_mode):
                        yield inner + name, found.st_size, found.st_mtime_ns


def _digest(lines: Iterable[tuple]) -> str:
    total = hashlib.sha256()
    for line in lines:
        total.update(f"{line!r}\n".encode())
    return total.hexdigest()
