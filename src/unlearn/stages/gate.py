"""gate: which numbers of a study may be believed."""

import logging
from typing import Any

from unlearn import tables
from unlearn.analysis.gates import gates
from unlearn.provenance import record

log = logging.getLogger("unlearn")


def gate(metrics: str, out: str, settings: dict[str, Any]) -> None:
    """``settings``: attack → its norm, kind and aim."""
    found = gates(tables.read("metrics", metrics).to_pandas(), settings)
    tables.write("gates", out, found, record(settings))
    failed = found[found["passed"].eq(False).fillna(False)]
    for (name, attack), rows in failed.groupby(["gate", "attack"]):
        log.warning(
            "gate %s fails for attack %s in %d runs", name, attack, len(rows.drop_duplicates(list(tables.RUN_KEY)))
        )
