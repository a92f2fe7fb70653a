"""collect: one table for the whole study from the same table of each run."""

from collections.abc import Sequence

from unlearn import tables
from unlearn.provenance import record


def collect(table: str, parts: Sequence[str], out: str) -> None:
    """Stream the ``parts`` into one ``table`` ("metrics", "trajectory", "tuning" or "ulira")."""
    with tables.Writer(table, out, record(parts=len(parts))) as writer:
        for path in parts:
            part = tables.read(table, path)
            writer.write({name: part[name].combine_chunks() for name in part.column_names})
