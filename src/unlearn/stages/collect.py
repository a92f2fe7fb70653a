"""collect: one table for the whole study from the same table of each run."""

from collections.abc import Sequence

import pyarrow as pa

from unlearn import schema, tables
from unlearn.failures import KEY, RunFailed
from unlearn.provenance import record

COLLECTED = {
    table.name: table for table in (schema.METRICS, schema.FAILURES, schema.TRAJECTORY, schema.TUNING, schema.ULIRA)
}


def collect(table: str, parts: Sequence[str], out: str) -> None:
    """Stream the ``parts`` into one ``table`` (of COLLECTED) without the runs that failed; or, for the table
    "failures", these alone, from their metrics."""
    part = failed if table == "failures" else whole
    with tables.Writer(COLLECTED[table], out, record(parts=len(parts))) as writer:
        for path in parts:
            writer.append(part(COLLECTED[table], path))


def whole(table: schema.Table, path: str) -> pa.Table:
    """A run's table, without rows if the run failed."""
    try:
        return tables.read(table, path)
    except RunFailed:
        return table.schema.empty_table()


def failed(table: schema.Table, path: str) -> pa.Table:
    """The identity and the reason of a run that failed, else no rows."""
    found = tables.metadata(path)
    rows = [{**found["run"], "reason": found[KEY]}] if KEY in found else []
    return pa.Table.from_pylist(rows, table.schema)
