"""gate: which robustness numbers of a study may be believed."""

import logging
from collections.abc import Mapping

from unlearn.analysis.gates import Attack, failed, gates
from unlearn.io import tables
from unlearn.io.columns import RUN_KEY
from unlearn.io.schema.gates import GATES
from unlearn.io.schema.metrics import METRICS

log = logging.getLogger("unlearn")


def gate(metrics: str, out: str, settings: Mapping[str, Mapping[str, str]]) -> None:
    """``settings``: attack → the fields of ``unlearn.analysis.gates.Attack``."""
    attacks = {name: Attack(**described) for name, described in settings.items()}
    table = gates(tables.read(METRICS, metrics).to_pandas(), attacks)
    tables.write(GATES, out, table, {"settings": settings})
    for (name, attack), rows in failed(table).groupby(["gate", "attack"]):
        log.warning("gate %s fails for attack %s in %d runs", name, attack, len(rows.drop_duplicates(list(RUN_KEY))))
