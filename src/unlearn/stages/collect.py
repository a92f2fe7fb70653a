"""collect: one table for the whole study from the same table of each run."""

from collections.abc import Sequence

from unlearn import schema, tables
from unlearn.provenance import record

COLLECTED = {table.name: table for table in (schema.METRICS, schema.TRAJECTORY, schema.TUNING, schema.ULIRA)}


def collect(table: str, parts: Sequence[str], out: str) -> None:
    """Stream the ``parts`` into one ``table`` ("metrics", "trajectory", "tuning" or "ulira")."""
    with tables.Writer(COLLECTED[table], out, record(parts=len(parts))) as writer:
        for path in parts:
            part = tables.read(COLLECTED[table], path)
            writer.write({name: part[name].combine_chunks() for name in part.column_names})
