"""collect: one metrics table for the whole study."""

from collections.abc import Sequence

from unlearn import tables
from unlearn.provenance import record


def collect(metrics: Sequence[str], out: str) -> None:
    """Stream the runs' metrics tables into one."""
    with tables.Writer("metrics", out, record(runs=len(metrics))) as writer:
        for path in metrics:
            table = tables.read("metrics", path)
            writer.write({name: table[name].combine_chunks() for name in table.column_names})
