"""The audit: which results are no longer what their jobs wrote, or not made from what lies there now.

It runs whenever the workflow is planned, so it looks at sizes and times and reads a file in full only
where these differ from the record. ``unlearn.provenance.verify`` reads everything.
"""

import importlib.metadata
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from unlearn.provenance import records

LIBRARIES = ("torch", "torchvision", "timm", "torchattacks")  # those whose upgrade may change a model or an attack
SHOWN = 10  # lines of findings


def read_all(results: str | Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(path, record) of all records in a folder of results, in order of paths; None for a damaged one."""
    for folder, folders, files in os.walk(results):
        folders.sort()
        if os.path.basename(folder) == records.FOLDER:
            for name in sorted(files):
                if name.endswith(".json"):
                    path = f"{folder}/{name}"  # a Path costs as much as reading the record
                    try:
                        yield path, records.read(path)
                    except records.RecordError:
                        yield path, None


def findings(found: Sequence[tuple[str, dict[str, Any] | None]]) -> dict[str, str]:
    """Result → why its job must run again. What is gone is no finding: Snakemake makes it where it is needed.

    A file that is still what its job wrote, but has another time (a copy, ``touch``), gets the recorded
    time back: Snakemake compares times too.
    """
    wrong = {records.output_of(path): "has a damaged record" for path, record in found if record is None}
    whole = [record for _, record in found if record is not None]
    made = {name: known["sha256"] for record in whole for name, known in record["outputs"].items()}
    sources = _Sources()
    for record in whole:
        first = next(iter(record["outputs"]))
        for name, known in record["outputs"].items():
            if reason := _changed(name, known, first):
                wrong[name] = reason
        for name, known in record["inputs"].items():
            now = made[name] if name in made else sources.digest(name, known)
            if now != known["sha256"]:
                wrong.setdefault(first, f"not made from {name} as it is now (sha256 {now[:12]})")
    return wrong


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


class _Sources(dict):
    """Digests of inputs that no job made, read once."""

    def digest(self, name: str, known: records.State) -> str:
        if name not in self:
            try:
                self[name] = known["sha256"] if records.agrees(name, known) else records.state(name)["sha256"]
            except FileNotFoundError:
                return known["sha256"]  # Snakemake says so, where it is needed
        return self[name]


def outdated(found: Sequence[tuple[str, dict[str, Any] | None]]) -> dict[str, str]:
    """Result → the versions of LIBRARIES it was made with, where they are not the installed ones."""
    installed = {name: importlib.metadata.version(name) for name in LIBRARIES}
    others = {}
    for _, record in found:
        if record is not None:
            other = [f"{n} {record['libraries'][n]}" for n in LIBRARIES if record["libraries"][n] != installed[n]]
            if other:
                others.update(dict.fromkeys(record["outputs"], ", ".join(other)))
    return others


def fits(record: Mapping[str, Any], inputs: Sequence[str], params: Mapping[str, Any]) -> bool:
    """Whether a job would do again what the record says: same code, settings, identity and inputs.

    Snakemake knows by itself, unless results came without its metadata. Metrics are left out: their
    names are in the fingerprint of the code.
    """
    known = {**record["arguments"], "code": record["code"], "settings": record["settings"]}
    return set(inputs) == set(record["inputs"]) and all(
        known.get(name) == value for name, value in params.items() if name != "metrics"
    )


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
