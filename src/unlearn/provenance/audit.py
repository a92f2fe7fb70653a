"""The audit: which results are no longer what their jobs wrote, or not made from what lies there now.

It runs whenever the workflow is planned, so it looks at sizes and times and reads a file in full only
where these differ from the record. ``unlearn.provenance.verify`` reads everything.
"""

import importlib.metadata
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from unlearn.provenance import records, sources

LIBRARIES = ("torch", "torchvision", "timm", "torchattacks")  # those whose upgrade may change a model or an attack
SHOWN = 10  # lines of findings

Records = Sequence[tuple[str, dict[str, Any] | None]]


def plan(
    results: str | Path, jobs: Iterable[Any], planned: Callable[[Any], bool], upgrades: str, touch: bool
) -> tuple[set[str], list[str]]:
    """The outputs of ``jobs`` that have to be made again, and a line on each of them.

    ``jobs`` are Snakemake's: they have ``input``, ``output`` and ``params``. ``planned`` says whether Snakemake makes
    one again by itself, for settings, code or inputs that it remembers. ``upgrades``: warn or rerun. With ``touch``
    nothing is run, and results are accepted as they are.
    """
    found = list(read_all(results))
    wrong, missing, older = findings(found), gone(found), outdated(found)
    made = {name: record for _, record in found if record for name in record["outputs"]}
    jobs = [job for job in jobs if job.output]
    for job in jobs:
        record = made.get(job.output[0])
        if record and not records.fits(record, request(job)) and not planned(job):
            wrong.setdefault(job.output[0], "not made by the code, settings and inputs of now")
    outputs = {name for job in jobs for name in job.output}
    inputs = {name for job in jobs for name in job.input} - outputs
    remade = {name: why for name, why in wrong.items() if name in outputs}
    older = {name: versions for name, versions in older.items() if name in outputs}
    said = [
        *lines(remade, "it is accepted as it is (--touch)" if touch else "it will be made again"),
        *lines(
            {n: why for n, why in wrong.items() if n in inputs}, "it is used as it is: no allowed rule makes it again"
        ),
        *lines({n: why for n, why in missing.items() if n in outputs - remade.keys()}, "it is used as it is"),
        *upgrade(older, len(outputs), upgrades),
    ]
    return {*remade, *(older if upgrades == "rerun" else ())}, said


def vouch(jobs: Iterable[Any]) -> None:
    """Record the results of jobs, as they lie, as made by the code, settings, inputs and sources of now. Results that
    are not all there stay as they are recorded."""
    for job in jobs:
        if job.output and all(map(os.path.isfile, job.output)):
            records.vouch(request(job))


def request(job: Any) -> dict[str, Any]:
    """What a job of Snakemake's does, as its record would have it."""
    return {**records.asked(dict(job.params.items())), "inputs": list(job.input), "outputs": list(job.output)}


def read_all(results: str | Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(path, record) of all records in a folder of results, in order of paths; None for one that cannot be read."""
    for folder, names in sources.walk(results):
        if os.path.basename(folder) == records.FOLDER:
            for name in names:
                if name.endswith(".json"):
                    path = f"{folder}/{name}"  # a Path costs as much as reading the record
                    try:
                        yield path, records.read(path)
                    except records.RecordError:
                        yield path, None


def findings(found: Records) -> dict[str, str]:
    """Result → why its job must run again. What is gone is no finding: Snakemake makes it where it is needed.

    A file that is still what its job wrote, but has another time (a copy, ``touch``), gets the recorded time back:
    Snakemake compares times too. A source that is the same at another time has its new listing recorded, so that a
    large folder is not read at each plan.
    """
    wrong = {
        records.output_of(path): "its record is damaged, or of an earlier version"
        for path, record in found
        if record is None
    }
    whole = [(path, record) for path, record in found if record is not None]
    made = {name: known["sha256"] for _, record in whole for name, known in record["outputs"].items()}
    files, read = _Files(), _Sources()
    for path, record in whole:
        first = next(iter(record["outputs"]))
        if first != records.output_of(path):
            wrong[records.output_of(path)] = f"has the record of {first}"
            continue
        for name, known in record["outputs"].items():
            if reason := _changed(name, known, first):
                wrong[name] = reason
        for name, known in record["inputs"].items():
            now = made[name] if name in made else files.digest(name, known)
            if now != known["sha256"]:
                wrong.setdefault(first, f"not made from {name} as it is now (sha256 {now[:12]})")
        for name, known in record["sources"].items():
            if reason := read.changed(name, known):
                wrong.setdefault(first, reason)
        renewed = {name: read.states.get(name, known) for name, known in record["sources"].items()}
        if first not in wrong and renewed != record["sources"] and not records.held(first):
            with suppress(OSError):  # somebody else's results
                records.write(Path(path), {**record, "sources": renewed})
    return wrong


def gone(found: Records) -> dict[str, str]:
    """Result → the source of it that is no longer there. The result is as good as it was."""
    return {
        next(iter(record["outputs"])): f"made from {name}, which is gone"
        for _, record in found
        if record is not None
        for name, known in record["sources"].items()
        if known["files"] and not sources.there(name)
    }


def _changed(name: str, known: records.State, first: str) -> str | None:
    try:
        if records.agrees(name, known):
            return None
        if records.held(first):
            return None  # its job is at work
        now = records.state(name)["sha256"]
    except FileNotFoundError:
        return None
    if now != known["sha256"]:
        return f"not what its job wrote (sha256 {now[:12]})"
    with suppress(PermissionError):  # somebody else's results
        os.utime(name, ns=(os.stat(name).st_atime_ns, known["mtime_ns"]))
    return None


class _Files(dict):
    """Digests of inputs whose job left no record, read once."""

    def digest(self, name: str, known: records.State) -> str:
        if name not in self:
            try:
                self[name] = known["sha256"] if records.agrees(name, known) else records.state(name)["sha256"]
            except FileNotFoundError:
                return known["sha256"]  # Snakemake says so, where it is needed
        return self[name]


class _Sources:
    """The present ``states`` of sources that have another listing than recorded, each read once."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, Any]] = {}
        self.listings: dict[str, str] = {}

    def changed(self, name: str, known: Mapping[str, Any]) -> str | None:
        """Why what was made from a source must be made again."""
        if not sources.there(name):
            return None
        if name not in self.listings:
            self.listings[name] = sources.listing(name)
        if self.listings[name] == known["listing"]:
            return None
        if name not in self.states:
            try:
                self.states[name] = sources.state(name)
            except OSError as error:
                return f"not made from {name} as it is now ({error})"
        now = self.states[name]
        if now["sha256"] == known["sha256"]:
            return None
        counts = f"{known['files']} files then, {now['files']} now"
        what = counts if now["files"] != known["files"] else f"sha256 {now['sha256'][:12]}"
        return f"not made from {name} as it is now ({what})"


def outdated(found: Records) -> dict[str, str]:
    """Result → the versions of LIBRARIES it was made with, where they are not the installed ones."""
    installed = {name: importlib.metadata.version(name) for name in LIBRARIES}
    others = {}
    for _, record in found:
        if record is not None:
            other = [f"{n} {record['libraries'][n]}" for n in LIBRARIES if record["libraries"][n] != installed[n]]
            if other:
                others.update(dict.fromkeys(record["outputs"], ", ".join(other)))
    return others


def upgrade(others: Mapping[str, str], total: int, policy: str) -> list[str]:
    """One line on the ``outdated`` among ``total`` results, if there are any; ``policy``: warn or rerun."""
    if not others:
        return []
    versions = ", ".join(sorted({part for found in others.values() for part in found.split(", ")}))
    installed = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    then = {"warn": "they stay (upgrades: warn)", "rerun": "they will be made again (upgrades: rerun)"}[policy]
    return [f"{len(others)} of {total} results were made with {versions}; installed: {installed}; {then}"]


def lines(wrong: Mapping[str, str], then: str) -> list[str]:
    """A line per finding, at most SHOWN and a count."""
    shown = [f"{name}: {reason}; {then}" for name, reason in list(wrong.items())[:SHOWN]]
    return [*shown, *([f"… and {len(wrong) - SHOWN} more; {then}"] if len(wrong) > SHOWN else [])]
