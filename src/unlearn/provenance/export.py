"""export: what a reader needs of a study in one archive, the same bytes for the same files."""

import gzip
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from unlearn.provenance import records

STUDY_WIDE = ("metrics", "comparisons", "correlations", "conjectures", "gates", "trajectory", "tuning", "ulira", "grid")


def export(results: str | Path, archive: str | Path, configs: Sequence[str | Path]) -> int:
    """Write tables, figures, study-wide Parquet, all records and the ``configs`` into a new .tar.gz,
    without weights, per-sample tables and data sets. Returns the number of files.

    Raises FileExistsError for an archive that is there, FileNotFoundError for results that are not.
    """
    found = sorted({str(path) for path in [*chosen(Path(results)), *map(Path, configs)]})
    if missing := [path for path in configs if not Path(path).is_file()]:
        raise FileNotFoundError(f"{missing[0]}: no such file")
    if not any(records.FOLDER in Path(path).parts for path in found):
        raise FileNotFoundError(f"{results}: holds no records of results")
    with (
        open(archive, "xb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in found:
            entry = tarfile.TarInfo(os.path.relpath(path))
            entry.size = os.stat(path).st_size
            entry.mode = 0o644
            with open(path, "rb") as file:
                tar.addfile(entry, file)
    return len(found)


def chosen(results: Path) -> Iterator[Path]:
    """The files of a folder of results that are exported."""
    for folder, _, files in os.walk(results):
        for name in files:
            path = Path(folder, name)
            page = path.parent.name in ("figures", "tables")
            wide = path.suffix == ".parquet" and path.stem in STUDY_WIDE and (path.parent / "figures").is_dir()
            record = path.parent.name == records.FOLDER and path.suffix == ".json"
            if page or wide or record:
                yield path
