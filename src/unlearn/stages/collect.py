"""collect: one table for the whole study from the same table of each run."""

from collections.abc import Sequence
from importlib import import_module

import pyarrow as pa

from unlearn.io import tables
from unlearn.io.failures import KEY, RunFailed
from unlearn.io.tables import Table


def collect(table: str, parts: Sequence[str], out: str) -> None:
    """Stream the ``parts`` into one ``table`` without the runs that failed; or, for the table
    "failures", these alone, from their metrics."""
    declared = getattr(import_module(f"unlearn.io.schema.{table}"), table.upper())
    part = failed if table == "failures" else whole
    with tables.Writer(declared, out, {"parts": len(parts)}) as writer:
        for path in parts:
            writer.append(part(declared, path))


def whole(table: Table, path: str) -> pa.Table:
    """A run's table, without rows if the run failed."""
    try:
        return tables.read(table, path)
    except RunFailed:
        return table.schema.empty_table()


def failed(table: Table, path: str) -> pa.Table:
    """The identity and the reason of a run that failed, else no rows."""
    found = tables.metadata(path)
    rows = [{**found["run"], "reason": found[KEY]}] if KEY in found else []
    return pa.Table.from_pylist(rows, table.schema)
