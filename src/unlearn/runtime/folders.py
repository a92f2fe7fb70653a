"""Folders of this user's below TMPDIR."""

import os
import tempfile
from pathlib import Path


def temporary(name: str) -> Path:
    """The path of one of them, whether or not it is there."""
    return Path(tempfile.gettempdir()) / f"unlearn-{os.getuid()}-{name}"


def private(name: str) -> Path:
    """Such a folder, which only this user can enter. Raises PermissionError if others can."""
    folder = temporary(name)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not private to this user")
    return folder
