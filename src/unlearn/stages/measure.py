"""measure: from a run's per-sample tables to its metrics."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from unlearn.api.metrics import Evidence, Features, MetricError, References, Row
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.schema.activations import ACTIVATIONS
from unlearn.io.schema.adversarial import ADVERSARIAL
from unlearn.io.schema.cost import COST
from unlearn.io.schema.features import FEATURES
from unlearn.io.schema.metrics import METRICS
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.io.schema.relearning import RELEARNING
from unlearn.io.tables import Table
from unlearn.run import ALL, ORIGINAL, REFERENCE, RETRAIN, Run


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
    features: str | None = None,
    retrain_features: str | None = None,
    original_features: str | None = None,
    relearning: str | None = None,
) -> None:
    """``metrics``: names of metric files; ``retrain_*`` and ``original_*``: tables of the controls with the same
    architecture, forget set and seed. ``retrain_metrics`` is None where this run is exact retraining; features and
    relearning are None where no metric needs them.

    Raises MetricError naming the metric at fault, or a reference that is missing or another run's.
    """
    exact = (run.method, run.scope) == REFERENCE
    if retrain_metrics is None and not exact:
        raise MetricError(f"{run.method}-{run.scope} needs the metrics of exact retraining")
    retrain = _reference(run, RETRAIN, retrain_predictions, retrain_features)
    original = _reference(run, ORIGINAL, original_predictions, original_features)
    known = None if exact else _control(METRICS, retrain_metrics, run, RETRAIN).to_pandas()
    evidence, rows = load(predictions, adversarial, activations, cost, features, relearning), []
    modules = {name: plugins.load("metrics", name) for name in metrics}
    _check_names({name: module.METRICS for name, module in modules.items()})
    for name, module in modules.items():
        if hasattr(module, "compute"):
            rows += _compute(name, module.compute, evidence)
    evidence = replace(evidence, metrics=frame(rows))
    references = References(replace(retrain, metrics=evidence.metrics if exact else known), original)
    for name, module in modules.items():
        if hasattr(module, "compute_relative"):
            rows += _compute(name, module.compute_relative, evidence, references)
    tables.write(METRICS, out, frame(rows), {"settings": {"metrics": list(metrics)}}, run)


def _check_names(declared: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise MetricError for a metric of two files, whose rows would be mixed. ``declared``: file → METRICS."""
    owners: dict[str, str] = {}
    for name, metrics in declared.items():
        for metric in metrics:
            if (other := owners.setdefault(metric, name)) != name:
                raise MetricError(f"metric {name!r}: {metric} is a metric of {other!r} too")


def load(
    predictions: str,
    adversarial: Sequence[str],
    activations: str,
    cost: str,
    features: str | None = None,
    relearning: str | None = None,
) -> Evidence:
    """A run's Evidence from its files."""
    layers = tables.read(ACTIVATIONS, activations).to_pandas()
    return Evidence(
        *_predicted(tables.read(PREDICTIONS, predictions)),
        activations=layers[layers["channel"].isna()].drop(columns="channel"),
        cost=tables.read(COST, cost).to_pandas(),
        features=_features(tables.read(FEATURES, features)) if features else None,
        relearning=tables.read(RELEARNING, relearning).to_pandas() if relearning else None,
        **_attacked(adversarial),
    )


def _attacked(paths: Sequence[str]) -> dict[str, Any]:
    """Fields of Evidence: attacked images by what the attack aimed at, and per attack its radii and its checks."""
    images = pa.concat_tables([tables.read(ADVERSARIAL, path) for path in paths]).to_pandas()
    described = {metadata["attack"]: metadata for metadata in map(tables.metadata, paths)}
    return {
        "adversarial": images[images["aim"] == "fool"].reset_index(drop=True),
        "recovery": images[images["aim"] == "recover"].reset_index(drop=True),
        "radii": {attack: tuple(metadata["radii"]) for attack, metadata in described.items()},
        "checks": {attack: metadata["checks"] for attack, metadata in described.items()},
    }


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as the metric columns of the metrics table, keys that do not apply null."""
    columns = pd.DataFrame(rows, columns=Row._fields).rename(columns={"label": "class"})
    return columns.astype(
        {
            **dict.fromkeys(("role", "attack", "layer", "reason"), "string"),
            **{"eps": "Float64", "class": "Int64", "n": "int64", "value": "float64"},
        }
    )


def _predicted(table: pa.Table) -> tuple[pd.DataFrame, np.ndarray]:
    """The frame (id, role, label, margin) and the logits [N, C] of a predictions table."""
    return table.select(["id", "role", "label", "margin"]).to_pandas(), tables.matrix(table["logits"])


def _features(table: pa.Table) -> Features:
    described = table.drop_columns("features").to_pandas()
    rows = described.groupby("layer", sort=False).indices
    depth = described.groupby("layer")["depth"].first()
    matrices = {layer: tables.matrix(table["features"].take(rows[layer])) for layer in depth.sort_values().index}
    first = described.loc[rows[next(iter(matrices))], ["id", "role", "label"]].reset_index(drop=True)
    return Features(first, {layer: matrix.astype(np.float32) for layer, matrix in matrices.items()})


def _reference(run: Run, method: str, predictions: str, features: str | None) -> Evidence:
    """A control as References hold it."""
    known = _features(_control(FEATURES, features, run, method)) if features else None
    return Evidence(*_predicted(_control(PREDICTIONS, predictions, run, method)), features=known)


def _compute(name: str, function: Any, *arguments: Evidence | References) -> list[Row]:
    declared = plugins.load("metrics", name).METRICS
    try:
        rows = list(function(*arguments))
    except MetricError as error:
        raise MetricError(f"metric {name!r}: {error}") from None
    if strange := [row for row in rows if not isinstance(row, Row)]:
        raise MetricError(f"metric {name!r} yields a {type(strange[0]).__name__}, must yield Rows")
    if undeclared := {row.metric for row in rows} - declared.keys():
        raise MetricError(f"metric {name!r} yields {', '.join(sorted(undeclared))}, which its METRICS do not declare")
    for row in rows:
        if math.isfinite(row.value) is not (row.reason is None) or math.isinf(row.value):
            given = f"{row.value} with the reason {row.reason!r}"
            raise MetricError(f"metric {name!r}, {row.metric}: {given}; must be a number, or NaN with a reason")
    return rows


def _control(declared: Table, path: str, run: Run, method: str) -> pa.Table:
    """The table of a control. Raises MetricError unless it is of this run's architecture, forget set and seed."""
    table = tables.read(declared, path)
    for key, wanted in vars(replace(run, method=method, scope=ALL)).items():
        if (values := set(table[key].unique().to_pylist())) != {wanted}:
            raise MetricError(f"{path}: is the reference of {key} {values}, not {wanted}")
    return table
