"""export: what a reader needs of a study in one archive, the same bytes for the same files."""

import gzip
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from unlearn.io import files
from unlearn.io.catalogue import TABLES
from unlearn.provenance import records, sources

NAMES = (".tar.gz", ".tgz")
WIDE = {f"{name}.parquet" for name, table in TABLES.items() if table.whole}


class ExportError(RuntimeError):
    """What cannot be exported, or not to there; the message names it."""


def export(study: str | Path, archive: str | Path, configs: Sequence[str | Path] = ()) -> int:
    """Write the tables, figures, study-wide Parquet and all records of a study (``results/NAME``), and ``configs``,
    into a new archive, without weights, per-sample tables and data sets. Returns the number of files.

    A member is named as its record names it, ``results/NAME/…``; a config by its file name alone. Raises ExportError
    for a folder that is no study's, an archive that exists or has another ending than NAMES, and configs of one name.
    """
    study, archive, configs = Path(os.path.abspath(study)), Path(archive), [Path(config) for config in configs]
    if not archive.name.endswith(NAMES):
        raise ExportError(f"{archive}: the name of an archive ends in {' or '.join(NAMES)}")
    if archive.exists():
        raise ExportError(f"{archive}: exists already")
    if not (study / records.FOLDER).is_dir():
        raise ExportError(f"{study}: holds no study; a study lies in results/NAME")
    if absent := [config for config in configs if not config.is_file()]:
        raise ExportError(f"{absent[0]}: no such file")
    members = {config.name: config for config in configs}
    if len(members) < len(configs):
        raise ExportError("two configs have the same file name")
    members |= {path.relative_to(study.parents[1]).as_posix(): path for path in chosen(study)}
    with (
        files.replacing(archive) as part,
        open(part, "wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, path in sorted(members.items()):
            member = tarfile.TarInfo(name)
            member.size = os.stat(path).st_size
            member.mode = 0o644
            with open(path, "rb") as file:
                tar.addfile(member, file)
    return len(members)


def chosen(study: Path) -> Iterator[Path]:
    """The files of a study that are exported: its pages and study-wide tables, and the records of all its results."""
    for folder in ("figures", "tables"):
        yield from (study / folder).glob("[!.]*")
    yield from (path for path in study.glob("*.parquet") if path.name in WIDE)
    for folder, names in sources.walk(study):
        if Path(folder).name == records.FOLDER:
            yield from (Path(folder, name) for name in names if name.endswith(".json"))
