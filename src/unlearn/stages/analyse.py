"""analyse: the study-wide statistics."""

from typing import Any

import pandas as pd

from unlearn import schema, tables
from unlearn.analysis.comparisons import compare
from unlearn.analysis.conjectures import Settings, conclude
from unlearn.analysis.correlations import correlate
from unlearn.analysis.gates import doubt, mark
from unlearn.metrics.fairness_gap import relative_gap
from unlearn.provenance import record
from unlearn.radii import headlines


def analyse(
    metrics: str,
    gates: str,
    grid: str,
    trajectory: str,
    comparisons: str,
    correlations: str,
    conjectures: str,
    settings: dict[str, Any],
) -> None:
    """``settings``: confidence, resamples, seed; the attack that conjectures are judged by, and the
    norms of all; ``trajectory``: the fairness-gap along pretraining."""
    frame = tables.read(schema.METRICS, metrics).to_pandas()
    radii = headlines(grid, settings["norms"])
    resampling = settings["confidence"], settings["resamples"], settings["seed"]
    compared = mark(compare(frame, *resampling), tables.read(schema.GATES, gates).to_pandas())
    tables.write(schema.COMPARISONS, comparisons, compared, record(settings))
    correlated = correlate(frame, *resampling, radii)
    tables.write(schema.CORRELATIONS, correlations, correlated, record(settings))
    followed = along(tables.read(schema.TRAJECTORY, trajectory).to_pandas())
    judged = Settings(*resampling, settings["attack"], radii)
    verdicts = doubt(conclude(frame, correlated, followed, judged), tables.read(schema.GATES, gates).to_pandas())
    tables.write(schema.CONJECTURES, conjectures, verdicts, record(settings))


def along(trajectory: pd.DataFrame) -> pd.DataFrame:
    """A row per checkpoint of pretraining: its accuracy and the mean over layers of the relative gap."""
    checkpoint = ["arch", "seed", "epoch", "accuracy"]
    by_layer = trajectory.groupby([*checkpoint, "layer"], sort=False)["sigma"]
    gaps = by_layer.agg(lambda sigma: relative_gap(sigma.to_numpy())).rename("relative_fairness_gap_mean")
    return gaps.groupby(checkpoint, sort=False).mean().reset_index()
