"""What a result was made from: the record every artifact carries."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import unlearn

LIBRARIES = ("torch", "torchvision", "timm", "torchattacks", "numpy", "pyarrow", "pandas", "scikit-learn")


def canonical(value: Any) -> Any:
    """The value with all mapping keys sorted, so that the order of keys in a file means nothing; typed settings as the
    mapping of their fields."""
    if is_dataclass(value):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    return value


@cache
def commit() -> dict[str, Any]:
    """Commit of the project's checkout and whether it has uncommitted changes; empty outside git."""
    root = Path(__file__).resolve().parents[2]
    try:
        head = subprocess.run(
            ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": head.removesuffix("-dirty"), "dirty": head.endswith("-dirty")}


def digest(value: Any) -> str:
    """Short fingerprint of a JSON-like value."""
    return hashlib.sha256(json.dumps(canonical(value), sort_keys=True).encode()).hexdigest()[:16]


_job: dict[str, Any] = {"code": "", "inputs": {}}  # of the job that runs; a stage called by hand has neither


@contextmanager
def job(code: str, inputs: Mapping[str, str]) -> Iterator[None]:
    """Within it, records name the job's fingerprint and its inputs, path → sha256."""
    before = dict(_job)
    _job.update(code=code, inputs=dict(inputs))
    try:
        yield
    finally:
        _job.update(before)


def record(settings: Any = None, **more: Any) -> dict[str, Any]:
    """The metadata of an artifact: version, commit, code, inputs, settings, libraries, machine, and ``more``."""
    return {
        "version": unlearn.__version__,
        **commit(),
        **_job,
        "settings": canonical(settings),
        "config": digest(settings),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {os.cpu_count()} cores",
        **more,
    }
