"""collect: one table for the whole study from the same table of each run."""

from collections.abc import Sequence
from typing import Any

from unlearn import tables
from unlearn.failures import KEY, RunFailed
from unlearn.provenance import record


def collect(table: str, parts: Sequence[str], out: str) -> None:
    """Stream the ``parts`` into one ``table`` ("metrics", "trajectory", "tuning" or "ulira"), without the
    runs that failed; or, for the table "failures", these alone, from their metrics."""
    rows = failed if table == "failures" else whole
    with tables.Writer(table, out, record(parts=len(parts))) as writer:
        for path in parts:
            writer.write(rows(table, path))


def whole(table: str, path: str) -> dict[str, Any]:
    """The columns of a run's table, without rows if the run failed."""
    try:
        part = tables.read(table, path)
    except RunFailed:
        part = tables.TABLES[table].schema.empty_table()
    return {name: part[name].combine_chunks() for name in part.column_names}


def failed(table: str, path: str) -> dict[str, Any]:
    """The identity and the reason of a run that failed, else no rows."""
    found = tables.metadata(path)
    rows = [{**found["run"], "reason": found[KEY]}] if KEY in found else []
    return {name: [row[name] for row in rows] for name in tables.TABLES[table].schema.names}
