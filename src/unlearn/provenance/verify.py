"""verify: read every result in full and hold it against its record, its table and its parents."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError, safe_open

from unlearn.fingerprint import Sources, StaleCode
from unlearn.io import failures, tables
from unlearn.io.catalogue import TABLES
from unlearn.provenance import audit, records, sources


class Finding(NamedTuple):
    """``kind``: record, moved, missing, damaged, invalid, parent, stale or unrecorded."""

    path: str
    kind: str
    detail: str


def verify(results: str | Path, code: Sources) -> tuple[list[Finding], int]:
    """All findings in a folder of results, and the number of results that were read."""
    findings: list[Finding] = []
    read: dict[str, str] = {}  # result → sha256 on disk
    whole = []
    for path, record in audit.read_all(results):
        if record is None:
            findings.append(Finding(os.path.relpath(path), "record", "is damaged, or of an earlier version"))
        elif (root := _root(path, record)) is None:
            findings.append(Finding(os.path.relpath(path), "moved", f"is of {next(iter(record['outputs']))}"))
        else:
            whole.append((root, record))
    for root, record in whole:
        for name, known in record["outputs"].items():
            findings += _output(os.path.relpath(root / name), known, read)
    made = {_place(root / name): known["sha256"] for root, record in whole for name, known in record["outputs"].items()}
    for root, record in whole:
        findings += _parents(root, record, made)
        findings += _stale(root, record, code)
    for path in _files(results):
        if _place(path) not in made:
            read[path] = ""
            findings.append(Finding(path, "unrecorded", "no record says what made it"))
            findings += _content(path)
    return findings, len(read)


def _root(path: str, record: dict[str, Any]) -> Path | None:
    """The folder that a record's paths start from; None if the record does not lie where they say.

    It is the present folder, or one above the record, whose path may hold links.
    """
    folder = Path(path).parents[1]
    named = Path(next(iter(record["outputs"]))).parent
    for root in (Path(), folder, *folder.absolute().parents, *folder.resolve().parents):
        if (root / named).is_dir() and (root / named).samefile(folder):
            return root
    return None


def _place(path: str | Path) -> str:
    """One name for a file, whatever links lead to it."""
    return os.path.realpath(path)


def _output(path: str, known: records.State, read: dict[str, str]) -> Iterator[Finding]:
    if not os.path.isfile(path):
        yield Finding(path, "missing", "recorded, but gone")
        return
    read[path] = records.state(path)["sha256"]
    if read[path] != known["sha256"]:
        yield Finding(path, "damaged", f"sha256 {read[path][:12]}, recorded {known['sha256'][:12]}")
    else:
        yield from _content(path)


def _content(path: str) -> Iterator[Finding]:
    """What is wrong with a table or weights file in itself."""
    check = {".parquet": _table, ".safetensors": _weights}.get(Path(path).suffix)
    try:
        if check:
            check(path)
    except (tables.TableError, SafetensorError, pa.ArrowException, OSError, KeyError, ValueError) as error:
        yield Finding(path, "invalid", str(error).replace("\n", " "))


def _table(path: str) -> None:
    found = tables.metadata(path)
    if failures.KEY in found:
        return
    table = TABLES[found["table"]]
    key = list(table.key)
    keys = tables.read(table, path, key)
    repeated = len(keys) - len(keys.group_by(key).aggregate([]))
    if repeated:
        raise ValueError(f"{repeated} rows repeat a key ({', '.join(key)})")


def _weights(path: str) -> None:
    with safe_open(path, "np") as file:
        found = file.metadata() or {}
        if failures.KEY in found:
            return
        if not found.get("format", "").startswith("unlearn-"):
            raise ValueError("not a weights file of this project")
        for name in file.keys():  # noqa: SIM118 (no mapping)
            tensor = file.get_tensor(name)
            if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
                raise ValueError(f"tensor {name} is not finite")


def _parents(root: Path, record: dict[str, Any], made: dict[str, str]) -> Iterator[Finding]:
    child = os.path.relpath(root / next(iter(record["outputs"])))
    for name, used in {**record["inputs"], **record["sources"]}.items():
        path = os.path.relpath(root / name)
        if _place(path) in made:
            now = made[_place(path)]
        elif used.get("files") == 0 or sources.there(path):
            now = sources.state(path)["sha256"]
        else:
            yield Finding(child, "parent", f"made from {path}, which is gone")
            continue
        if now != used["sha256"]:
            yield Finding(child, "parent", f"made from another {path} (sha256 {used['sha256'][:12]}, now {now[:12]})")


def _stale(root: Path, record: dict[str, Any], code: Sources) -> Iterator[Finding]:
    path = os.path.relpath(root / next(iter(record["outputs"])))
    try:
        if record["code"]:
            code.verify(record["code"])
    except StaleCode:
        yield Finding(path, "stale", "made by code that has changed since")
    except (KeyError, SyntaxError) as error:
        yield Finding(path, "stale", f"made by code that is no longer there ({error})")


def _files(results: str | Path) -> Iterator[str]:
    """Every file but the records and the locks of jobs."""
    for folder, names in sources.walk(results):
        for name in names:
            if not (os.path.basename(folder) == records.FOLDER and name.endswith((".json", ".lock"))):
                yield os.path.relpath(os.path.join(folder, name))
