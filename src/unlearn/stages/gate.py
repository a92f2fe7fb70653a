"""gate: which numbers of a study may be believed."""

import logging
from collections.abc import Mapping, Sequence

import pandas as pd

from unlearn.analysis.gates import Attack, copies, failed, gates
from unlearn.analysis.independence import independence
from unlearn.io import tables
from unlearn.io.columns import RUN_KEY
from unlearn.io.schema.composition import COMPOSITION
from unlearn.io.schema.gates import GATES
from unlearn.io.schema.metrics import METRICS

log = logging.getLogger("unlearn")


def gate(
    metrics: str,
    composition: str,
    retrained: Sequence[str],
    out: str,
    settings: Mapping[str, Mapping[str, str]],
    confidence: float,
) -> None:
    """``retrained``: the cost tables of exact retraining, which say how it was made; ``settings``: attack → the fields
    of ``unlearn.analysis.gates.Attack``; ``confidence``: that of intervals."""
    attacks = {name: Attack(**described) for name, described in settings.items()}
    measured, composed = tables.read(METRICS, metrics).to_pandas(), tables.read(COMPOSITION, composition).to_pandas()
    made = [tables.metadata(path) for path in retrained]
    found = gates(measured, attacks), copies(measured, composed), independence(measured, made, confidence)
    table = pd.concat(found, ignore_index=True)
    tables.write(GATES, out, table, {"settings": settings})
    for (name, attack), rows in failed(table).groupby(["gate", "attack"], dropna=False):
        of = "" if pd.isna(attack) else f" for attack {attack}"
        log.warning("gate %s fails%s in %d runs", name, of, len(rows.drop_duplicates(list(RUN_KEY))))
