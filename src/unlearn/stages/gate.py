"""gate: which numbers of a study may be believed."""

import logging
from typing import Any

from unlearn import schema, tables
from unlearn.analysis.gates import gates
from unlearn.provenance import record

log = logging.getLogger("unlearn")


def gate(metrics: str, out: str, settings: dict[str, Any]) -> None:
    """``settings``: attack → its norm, kind and aim."""
    found = gates(tables.read(schema.METRICS, metrics).to_pandas(), settings)
    tables.write(schema.GATES, out, found, record(settings))
    failed = found[found["passed"].eq(False).fillna(False)]
    for (name, attack), rows in failed.groupby(["gate", "attack"]):
        log.warning(
            "gate %s fails for attack %s in %d runs", name, attack, len(rows.drop_duplicates(list(schema.RUN_KEY)))
        )
