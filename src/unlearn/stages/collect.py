"""collect: one table for the whole study from the same table of each run."""

from collections.abc import Sequence

import pyarrow as pa

from unlearn.io import tables
from unlearn.io.failures import KEY, RunFailed
from unlearn.io.tables import Table


def collect(table: str, parts: Sequence[str], out: str) -> None:
    """Stream the ``parts`` into one ``table``, without the runs that failed; the table "failures" has these alone,
    from their metrics."""
    declared = tables.named(table)
    part = failed_run if table == "failures" else run_table
    with tables.Writer(declared, out, {"parts": len(parts)}) as writer:
        for path in parts:
            writer.append(part(declared, path))


def run_table(table: Table, path: str) -> pa.Table:
    """A run's table, without rows if the run failed."""
    try:
        return tables.read(table, path)
    except RunFailed:
        return table.schema.empty_table()


def failed_run(table: Table, path: str) -> pa.Table:
    """The identity of a run that failed, and the reason; without rows if the run has a result."""
    metadata = tables.metadata(path)
    rows = [{**metadata["run"], "reason": metadata[KEY]}] if KEY in metadata else []
    return pa.Table.from_pylist(rows, table.schema)
