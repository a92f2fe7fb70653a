"""Files that appear whole, and folders that are private."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside ``path`` to write to, which takes its place at the end, and is gone after a failure.

    No other process has the same one, on whatever machine.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def temporary(name: str) -> Path:
    """The path of a folder of this user's below TMPDIR."""
    return Path(tempfile.gettempdir()) / f"unlearn-{os.getuid()}-{name}"


def private(name: str) -> Path:
    """That folder, which only this user can enter. Raises PermissionError if others can."""
    folder = temporary(name)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not private to this user")
    return folder
