"""The ledger: beside every result lies a record of what made it, from what, and what it was when it was whole.

A job whose first output is ``D/NAME`` has its record in ``D/.made/NAME.json``. Paths in it are those of
the workflow, relative to the folder it runs in; the first of its ``outputs`` names it. A *state* of a file
is its sha256, size and mtime_ns.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from unlearn.io import files, metadata

FOLDER = ".made"
log = logging.getLogger("unlearn")

State = dict[str, Any]


class RecordError(RuntimeError):
    """A record that is damaged, or cannot be made; the message names the file."""


def record_of(output: str | Path) -> Path:
    """Where the record of the job with this first output lies.

    >>> record_of("results/radii.parquet").as_posix()
    'results/.made/radii.parquet.json'
    """
    return Path(output).parent / FOLDER / f"{Path(output).name}.json"


def output_of(record: str | Path) -> str:
    """The first output of the job that a record is of, by where it lies.

    >>> output_of("results/.made/radii.parquet.json")
    'results/radii.parquet'
    """
    return str(Path(record).parents[1] / Path(record).stem)


@contextmanager
def entry(request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Around a job (see ``unlearn.runtime.runner``): it alone writes its outputs, what it writes names its
    inputs, and when it has ended well its record is written. Yields the inputs' digests.

    Raises RecordError if an output is missing then.
    """
    path = record_of(request["outputs"][0])
    with alone(path.with_suffix(".lock")):
        inputs = {name: input_state(name) for name in request["inputs"]}
        started, clock = datetime.now(UTC), time.monotonic()
        digests = {name: found["sha256"] for name, found in inputs.items()}
        with metadata.job(request["code"], digests):
            yield digests
            seconds = round(time.monotonic() - clock, 3)
            if missing := [name for name in request["outputs"] if not os.path.isfile(name)]:
                raise RecordError(f"{missing[0]}: its job ended without writing it")
            arguments = dict(request["arguments"])
            settings = arguments.pop("settings", None)
            made = metadata.record(
                settings,
                stage=request["stage"],
                arguments=arguments,
                inputs=inputs,
                outputs={name: state(name) for name in request["outputs"]},
                device=arguments.get("device"),
                precision=(settings or {}).get("precision"),
                threads=request["threads"],
                started=started.isoformat(timespec="seconds"),
                seconds=seconds,
            )
        write(path, made)


def state(path: str | Path) -> State:
    """What a file is now, read in full."""
    found = os.stat(path)
    with open(path, "rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": sha, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def agrees(path: str | Path, known: State) -> bool:
    """Whether size and time are those of a known state. Raises FileNotFoundError."""
    found = os.stat(path)
    return (found.st_size, found.st_mtime_ns) == (known["size"], known["mtime_ns"])


def find(path: str) -> dict[str, Any] | None:
    """The record of the job that made a file, if there is a whole one."""
    for name in sorted((Path(path).parent / FOLDER).glob("*.json")):
        with suppress(RecordError):
            if path in (record := read(name))["outputs"]:
                return record
    return None


def input_state(path: str) -> State:
    """The state of an input: from the record of the job that made it if size and time still agree,
    so that a large data set is not read once more by each job; else read in full."""
    record = find(path)
    known = record["outputs"][path] if record else None
    return known if known and agrees(path, known) else state(path)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, waiting for its holder to end. The file is gone afterwards.

    A job outlives a killed Snakemake; the job that repeats it must not write at the same time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # still locked: who waits for it sees that it is no longer the one here


def _locked(path: Path) -> IO[str]:
    while True:
        file = open(path, "w")  # noqa: SIM115 (closed by the caller)
        try:
            _wait(file, path)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except OSError as error:  # its holder has removed it; on NFS the open file is stale then
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
        file.close()


def _wait(file: IO[str], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("%s: another process is making this; waiting for its end", path.with_suffix("").name)
        fcntl.flock(file, fcntl.LOCK_EX)


def held(output: str | Path) -> bool:
    """Whether a job whose first output this is holds its lock."""
    try:
        with open(record_of(output).with_suffix(".lock")) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def serialised(record: Mapping[str, Any]) -> bytes:
    """JSON on one line, in the record's own order, with a digest of all before it at its end."""
    text = json.dumps(record)
    sha = hashlib.sha256(text.encode()).hexdigest()
    return f'{text[:-1]}, "~record": "{sha}"}}\n'.encode()


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record atomically."""
    with files.replacing(path) as part:
        part.write_bytes(serialised(record))


def read(path: str | Path) -> dict[str, Any]:
    """A record. Raises RecordError unless every byte is as it was written."""
    with open(path, "rb") as file:
        raw = file.read()
    body, found, sha = raw.removesuffix(b'"}\n').rpartition(b', "~record": "')
    if not found or hashlib.sha256(body + b"}").hexdigest().encode() != sha or not raw.endswith(b'"}\n'):
        raise RecordError(f"{path}: damaged record")
    return json.loads(body + b"}")
