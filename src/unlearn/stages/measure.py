"""measure: from a run's per-sample tables to its metrics."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from unlearn import registry, tables
from unlearn.metrics import Evidence, MetricError, Row
from unlearn.provenance import record
from unlearn.tables import Run


def measure(
    run: dict[str, Any],
    predictions: str,
    adversarial: Sequence[str],
    activations: str,
    cost: str,
    reference: str | None,
    out: str,
    metrics: Sequence[str],
) -> None:
    """``metrics``: names of metric files; ``reference``: the metrics table of exact retraining for
    the same architecture, forget set and seed, None if this run is that reference.

    Raises MetricError naming the metric that is not defined here.
    """
    evidence = load(predictions, adversarial, activations, cost)
    modules = {name: registry.load("metrics", name) for name in metrics}
    absolute = [
        row for name, m in modules.items() if hasattr(m, "compute") for row in _compute(name, m.compute, evidence)
    ]
    evidence = dataclasses.replace(evidence, metrics=frame(absolute))
    known = evidence if reference is None else dataclasses.replace(evidence, metrics=_stored(reference, run))
    relative = [
        row
        for name, m in modules.items()
        if hasattr(m, "compute_relative")
        for row in _compute(name, m.compute_relative, evidence, known)
    ]
    columns = frame(absolute + relative)
    tables.write("metrics", out, columns, record({"metrics": list(metrics)}, run=run), Run(**run))


def load(predictions: str, adversarial: Sequence[str], activations: str, cost: str) -> Evidence:
    """A run's Evidence from its files."""
    predicted = tables.read("predictions", predictions)
    return Evidence(
        predicted.select(["id", "role", "label"]).to_pandas(),
        tables.matrix(predicted["logits"]),
        pa.concat_tables([tables.read("adversarial", path) for path in adversarial]).to_pandas(),
        tables.read("activations", activations).to_pandas(),
        tables.read("cost", cost).to_pandas(),
    )


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as the metric columns of the metrics table, keys that do not apply null."""
    columns = pd.DataFrame(rows, columns=Row._fields).rename(columns={"label": "class"})
    return columns.astype(
        {
            "role": "string",
            "attack": "string",
            "layer": "string",
            "eps": "Float64",
            "class": "Int64",
            "n": "int64",
            "value": "float64",
        }
    )


def _compute(name: str, function: Any, *arguments: Evidence) -> list[Row]:
    declared = registry.load("metrics", name).METRICS
    try:
        found = list(function(*arguments))
    except MetricError as error:
        raise MetricError(f"metric {name!r}: {error}") from None
    if undeclared := {row.metric for row in found} - declared.keys():
        raise MetricError(f"metric {name!r} yields {', '.join(sorted(undeclared))}, which its METRICS do not declare")
    return found


def _stored(path: str, run: dict[str, Any]) -> pd.DataFrame:
    """The reference's metrics. Raises MetricError unless they belong to this run's group."""
    table = tables.read("metrics", path).to_pandas()
    for key in ("arch", "forget", "seed"):
        if set(table[key]) != {run[key]}:
            raise MetricError(f"{path}: is the reference of {key} {set(table[key])}, not {run[key]}")
    return table
