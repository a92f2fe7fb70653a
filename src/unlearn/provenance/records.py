"""Beside every result lies a record of what made it, from what, and what it was when it was whole.

A job whose first output is ``D/NAME`` has its record in ``D/.made/NAME.json``. Paths in it are those of the workflow,
relative to the folder it runs in; the first of its ``outputs`` names it. ``inputs`` are results of other jobs;
``sources`` are files and folders that settings name and no job makes (see ``unlearn.provenance.sources``). The *state*
of an input or output is its sha256, size and mtime_ns.
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
from unlearn.provenance import sources

FOLDER = ".made"
MAKING = ("libraries", "python", "machine", "device", "threads", "started", "seconds")  # how it was really made
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


def asked(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a job of the workflow is asked to do, by its params: the ``code`` to run and its ``stage``, the ``sources``
    it reads, and the other ``arguments`` of the stage."""
    arguments = dict(params)
    code = arguments.pop("code")
    return {"code": code, "stage": code.split()[1], "sources": arguments.pop("sources", []), "arguments": arguments}


@contextmanager
def entry(request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Around a job: it alone writes its outputs, what it writes names its inputs, and when it has ended well its
    record is written. Yields the inputs' digests.

    ``request`` has what ``asked`` gives (``sources`` may be left out), the paths of ``inputs`` and ``outputs``, and
    ``threads``. Raises RecordError
    if an output is missing at the end, or if a source was changed meanwhile. One that was not there at the beginning,
    such as a download, is recorded as the job left it.
    """
    path = record_of(request["outputs"][0])
    with alone(path.with_suffix(".lock")):
        inputs = {name: input_state(name) for name in request["inputs"]}
        read = {name: sources.listing(name) for name in request.get("sources", ()) if sources.there(name)}
        started, clock = datetime.now(UTC), time.monotonic()
        digests = {name: found["sha256"] for name, found in inputs.items()}
        with metadata.job(request["code"], digests):
            yield digests
            seconds = round(time.monotonic() - clock, 3)
            if missing := [name for name in request["outputs"] if not os.path.isfile(name)]:
                raise RecordError(f"{missing[0]}: its job ended without writing it")
            if changed := [name for name, before in read.items() if sources.listing(name) != before]:
                raise RecordError(f"{changed[0]}: was changed while it was read; start this again")
        made = _described(request, inputs)
        started = started.isoformat(timespec="seconds")
        write(path, {**made, "threads": request["threads"], "started": started, "seconds": seconds})


def _described(request: Mapping[str, Any], inputs: Mapping[str, State]) -> dict[str, Any]:
    """The record of a job whose outputs are there, but for threads and times."""
    arguments = dict(request["arguments"])
    settings = arguments.pop("settings", None)
    return metadata.record(
        settings,
        code=request["code"],
        stage=request["stage"],
        arguments=arguments,
        inputs=inputs,
        sources={name: sources.state(name) for name in request.get("sources", ())},
        outputs={name: state(name) for name in request["outputs"]},
        device=arguments.get("device"),
        precision=(settings or {}).get("precision"),
    )


def fits(record: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether a job would do again what the record says: same code, settings, identity and paths."""
    known = {name: value for name, value in record["arguments"].items() if name != "device"}
    known["settings"] = record["settings"]
    asked = json.loads(json.dumps({"settings": None, **request["arguments"]}))  # as a record would have it
    return (record["code"], known) == (request["code"], asked) and all(
        set(record[kind]) == set(request[kind]) for kind in ("inputs", "sources", "outputs")
    )


def vouch(request: Mapping[str, Any]) -> None:
    """Record the outputs, as they lie, as made by the code, settings, inputs and sources of now. How they were really
    made (``MAKING``) stays as it is recorded. Nothing changes where the record says so already."""
    path = record_of(request["outputs"][0])
    inputs = {name: input_state(name) for name in request["inputs"]}
    try:
        known = read(path)
    except (FileNotFoundError, RecordError):
        known = {}
    if known and fits(known, request):
        read_same = all(known["inputs"][name]["sha256"] == now["sha256"] for name, now in inputs.items())
        if read_same and all(agrees(name, known["outputs"][name]) for name in request["outputs"]):
            return
    made = _described(request, inputs)
    if "device" in known.get("arguments", {}):
        made["arguments"]["device"] = known["arguments"]["device"]
    vouched = datetime.now(UTC).isoformat(timespec="seconds")
    write(path, {**made, **{key: known[key] for key in MAKING if key in known}, "vouched": vouched})


def state(path: str | Path) -> State:
    """What a file is now, read in full."""
    found = os.stat(path)
    return {"sha256": sources.sha256(path), "size": found.st_size, "mtime_ns": found.st_mtime_ns}


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
    path.parent.mkdir(exist_ok=True)
    with files.replacing(path) as part:
        part.write_bytes(serialised(record))


def read(path: str | Path) -> dict[str, Any]:
    """A record. Raises RecordError unless every byte is as it was written, by this version."""
    with open(path, "rb") as file:
        raw = file.read()
    body, found, sha = raw.removesuffix(b'"}\n').rpartition(b', "~record": "')
    if not found or hashlib.sha256(body + b"}").hexdigest().encode() != sha or not raw.endswith(b'"}\n'):
        raise RecordError(f"{path}: damaged record")
    record = json.loads(body + b"}")
    if "sources" not in record:
        raise RecordError(f"{path}: is of an earlier version")
    return record
