"""lineage: what a result was made from, as a tree back to the data set; results that are alike share a line."""

import importlib.metadata
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from unlearn.provenance import records, sources


class Used(NamedTuple):
    """A file or a source, and the sha256 it had when it was used; "" for the one that is asked about."""

    path: str
    sha256: str
    source: bool = False  # no job makes it


class Lineage:
    """The ancestors of one result, looked up in records as they are needed."""

    def __init__(self, path: str):
        """Raises RecordError for a result without a record."""
        self.path = os.path.relpath(path)
        self.records: dict[str, dict[str, Any] | None] = {}
        self.states: dict[str, str] = {}
        self.shown: set[str] = set()
        root = self._record(self.path)
        if root is None:
            raise records.RecordError(f"{path}: has no record; is this the folder that the workflow runs in?")
        self.libraries = root["libraries"]

    def lines(self) -> Iterator[str]:
        """The tree, and what of the libraries is not installed now."""
        yield from self._tree([Used(self.path, "")], "", "")
        installed = {name: importlib.metadata.version(name) for name in self.libraries}
        yield "libraries: " + ", ".join(
            f"{name} {version}" + (f" (installed: {installed[name]})" if version != installed[name] else "")
            for name, version in self.libraries.items()
        )

    def _tree(self, group: Sequence[Used], head: str, tail: str) -> Iterator[str]:
        paths = sorted({used.path for used in group})
        known = [record for path in paths if (record := self._record(path))]
        marks = [*self._marks(group, known)]
        if self.shown.issuperset(paths):
            yield head + "  ".join([_name(paths), *marks, "(above)"])
            return
        self.shown.update(paths)
        yield head + "  ".join([_name(paths), *self._facts(paths, known), *marks])
        parents = self._parents(paths)
        for number, parent in enumerate(parents, 1):
            branch, stem = ("├─ ", "│  ") if number < len(parents) else ("└─ ", "   ")
            yield from self._tree(parent, tail + branch, tail + stem)

    def _parents(self, paths: Sequence[str]) -> list[list[Used]]:
        """All inputs and sources of the jobs that made these files; those that one stage made of one kind together."""
        groups: dict[tuple[str, str], dict[Used, None]] = {}
        for path in paths:
            record = self._record(path)
            for kind in ("inputs", "sources") if record else ():
                for name, known in record[kind].items():
                    made = self._record(name)
                    key = (os.path.splitext(name)[1], made["stage"]) if made else (name, "")
                    groups.setdefault(key, {})[Used(name, known["sha256"], kind == "sources")] = None
        return [list(group) for group in groups.values()]

    def _facts(self, paths: Sequence[str], known: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        for key, value in (
            ("by", _one(record["stage"].rpartition(".")[2] for record in known)),
            ("settings", _one(record["config"][:8] for record in known if record["settings"] is not None)),
            ("code", _one(record["code"][:8] for record in known)),
            ("commit", _one(_commit(record) for record in known)),
            ("sha256", _one(self._recorded(path)[:12] for path in paths)),
        ):
            if value:
                yield f"{key} {value}"

    def _marks(self, group: Sequence[Used], known: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """What is not as it should be."""
        others = {
            f"{name} {record['libraries'][name]}"
            for record in known
            for name, version in self.libraries.items()
            if record["libraries"][name] != version
        }
        if others:
            yield f"[with {', '.join(sorted(others))}]"
        if any("vouched" in record for record in known):
            yield "[vouched]"
        paths = {used.path for used in group}
        for text, count in (
            ("no record", sum(self._record(path) is None for path in {used.path for used in group if not used.source})),
            ("gone", sum(not self._now(path) for path in paths)),
            ("not what was recorded", sum(self._now(path) not in ("", self._recorded(path)) for path in paths)),
            ("changed since it was used", sum(u.sha256 not in ("", self._recorded(u.path)) for u in group)),
        ):
            if count:
                yield f"[!{f' {count}' if len(paths) > 1 else ''} {text}]"

    def _record(self, path: str) -> dict[str, Any] | None:
        if path not in self.records:
            self.records[path] = records.find(path)
        return self.records[path]

    def _recorded(self, path: str) -> str:
        """The recorded sha256; of a file without a record the present one."""
        record = self._record(path)
        return record["outputs"][path]["sha256"] if record else self._now(path)

    def _now(self, path: str) -> str:
        """The sha256 on disk, "" if there is nothing."""
        if path not in self.states:
            self.states[path] = sources.state(path)["sha256"] if sources.there(path) else ""
        return self.states[path]


def _name(paths: Sequence[str]) -> str:
    """What a line is about.

    >>> _name(["a/b/metrics.parquet", "a/c/metrics.parquet"])
    'metrics.parquet of 2 in a'
    >>> _name(["a/b/adversarial-fgsm.parquet", "a/b/adversarial-pgd.parquet"])
    '*.parquet of 2 in a/b'
    """
    if len(paths) == 1:
        return paths[0]
    names = {os.path.basename(path) for path in paths}
    name = names.pop() if len(names) == 1 else f"*{os.path.splitext(paths[0])[1]}"
    return f"{name} of {len(paths)} in {os.path.commonpath([os.path.dirname(path) for path in paths])}"


def _commit(record: Mapping[str, Any]) -> str:
    return record.get("commit", "none") + ("+changes" if record.get("dirty") else "")


def _one(values: Iterator[str]) -> str:
    """The value if all agree, else how many there are."""
    found = sorted(set(values))
    return found[0] if len(found) == 1 else (f"({len(found)} different)" if found else "")
