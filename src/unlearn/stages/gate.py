"""gate: which numbers of a study may be believed."""

import logging
from typing import Any

from unlearn.analysis.gates import gates
from unlearn.io import tables
from unlearn.io.columns import RUN_KEY
from unlearn.io.schema.gates import GATES
from unlearn.io.schema.metrics import METRICS

log = logging.getLogger("unlearn")


def gate(metrics: str, out: str, settings: dict[str, Any]) -> None:
    """``settings``: attack → its threat norm, category and aim."""
    found = gates(tables.read(METRICS, metrics).to_pandas(), settings)
    tables.write(GATES, out, found, {"settings": settings})
    failed = found[found["passed"].eq(False).fillna(False)]
    for (name, attack), rows in failed.groupby(["gate", "attack"]):
        log.warning("gate %s fails for attack %s in %d runs", name, attack, len(rows.drop_duplicates(list(RUN_KEY))))
