"""measure: from a run's per-sample tables to its metrics."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from unlearn.api.metrics import Evidence, MetricError, References, Row
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.schema.activations import ACTIVATIONS
from unlearn.io.schema.adversarial import ADVERSARIAL
from unlearn.io.schema.cost import COST
from unlearn.io.schema.metrics import METRICS
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.io.tables import Table
from unlearn.run import REFERENCE, Run


def measure(
    run: Run,
    predictions: str,
    adversarial: Sequence[str],
    activations: str,
    cost: str,
    retrain_predictions: str,
    original_predictions: str,
    out: str,
    metrics: Sequence[str],
    retrain_metrics: str | None = None,
) -> None:
    """``metrics``: names of metric files; ``retrain_*`` and ``original_*``: tables of exact retraining
    and of the original for the same architecture, forget set and seed. ``retrain_metrics`` is None
    where this run is exact retraining.

    Raises MetricError naming the metric that is not defined here, or a reference that is missing or
    another run's.
    """
    exact = (run.method, run.scope) == REFERENCE
    if retrain_metrics is None and not exact:
        raise MetricError(f"{run.method}-{run.scope} needs the metrics of exact retraining")
    evidence = load(predictions, adversarial, activations, cost)
    modules = {name: plugins.load("metrics", name) for name in metrics}
    absolute = [
        row for name, m in modules.items() if hasattr(m, "compute") for row in _compute(name, m.compute, evidence)
    ]
    evidence = dataclasses.replace(evidence, metrics=frame(absolute))
    known = evidence.metrics if exact else _reference(METRICS, retrain_metrics, run, "retrain").to_pandas()
    references = References(
        Evidence(*_predicted(_reference(PREDICTIONS, retrain_predictions, run, "retrain")), metrics=known),
        Evidence(*_predicted(_reference(PREDICTIONS, original_predictions, run, "original"))),
    )
    relative = [
        row
        for name, m in modules.items()
        if hasattr(m, "compute_relative")
        for row in _compute(name, m.compute_relative, evidence, references)
    ]
    columns = frame(absolute + relative)
    tables.write(METRICS, out, columns, {"settings": {"metrics": list(metrics)}}, run)


def load(predictions: str, adversarial: Sequence[str], activations: str, cost: str) -> Evidence:
    """A run's Evidence from its files."""
    return Evidence(
        *_predicted(tables.read(PREDICTIONS, predictions)),
        activations=_whole_layers(tables.read(ACTIVATIONS, activations).to_pandas()),
        cost=tables.read(COST, cost).to_pandas(),
        **_attacked(adversarial),
    )


def _whole_layers(activations: pd.DataFrame) -> pd.DataFrame:
    return activations[activations["channel"].isna()].drop(columns="channel")


def _attacked(paths: Sequence[str]) -> dict[str, Any]:
    """The attack's images by what it aimed at, and by attack its radii and its checks."""
    images = pa.concat_tables([tables.read(ADVERSARIAL, path) for path in paths]).to_pandas()
    described = {found["attack"]: found for found in map(tables.metadata, paths)}
    return {
        "adversarial": images[images["aim"] == "fool"].reset_index(drop=True),
        "recovery": images[images["aim"] == "recover"].reset_index(drop=True),
        "grids": {attack: tuple(found["grid"]) for attack, found in described.items()},
        "checks": {attack: found["checks"] for attack, found in described.items()},
    }


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


def _predicted(table: pa.Table) -> tuple[pd.DataFrame, np.ndarray]:
    """The frame (id, role, label, margin) and the logits [N, C] of a predictions table."""
    return table.select(["id", "role", "label", "margin"]).to_pandas(), tables.matrix(table["logits"])


def _compute(name: str, function: Any, *arguments: Evidence | References) -> list[Row]:
    declared = plugins.load("metrics", name).METRICS
    try:
        found = list(function(*arguments))
    except MetricError as error:
        raise MetricError(f"metric {name!r}: {error}") from None
    if strange := [row for row in found if not isinstance(row, Row)]:
        raise MetricError(f"metric {name!r} yields a {type(strange[0]).__name__}, must yield Rows")
    if undeclared := {row.metric for row in found} - declared.keys():
        raise MetricError(f"metric {name!r} yields {', '.join(sorted(undeclared))}, which its METRICS do not declare")
    return found


def _reference(kind: Table, path: str, run: Run, method: str) -> pa.Table:
    """A table of ``method`` on all layers. Raises MetricError unless it belongs to this run's group."""
    table = tables.read(kind, path)
    for key, wanted in (
        *((key, getattr(run, key)) for key in ("arch", "forget", "seed")),
        ("method", method),
        ("scope", "all"),
    ):
        if (found := set(table[key].unique().to_pylist())) != {wanted}:
            raise MetricError(f"{path}: is the reference of {key} {found}, not {wanted}")
    return table
