"""analyse: the study-wide statistics."""

from typing import Any

import pandas as pd

from unlearn.analysis.comparisons import compare
from unlearn.analysis.conjectures import Settings, conclude
from unlearn.analysis.correlations import correlate
from unlearn.analysis.gates import doubt, flag
from unlearn.analysis.radii import headlines
from unlearn.io import tables
from unlearn.io.schema.comparisons import COMPARISONS
from unlearn.io.schema.conjectures import CONJECTURES
from unlearn.io.schema.correlations import CORRELATIONS
from unlearn.io.schema.gates import GATES
from unlearn.io.schema.metrics import METRICS
from unlearn.io.schema.trajectory import TRAJECTORY
from unlearn.metrics.fairness_gap import relative_gap


def analyse(
    metrics: str,
    gates: str,
    radii: str,
    trajectory: str,
    comparisons: str,
    correlations: str,
    conjectures: str,
    settings: dict[str, Any],
) -> None:
    """``settings``: confidence, resamples, seed; the attack that conjectures are judged by, and the
    threat norms of all; ``trajectory``: the fairness-gap along pretraining."""
    frame = tables.read(METRICS, metrics).to_pandas()
    headline = headlines(radii, settings["threat_norms"])
    resampling = settings["confidence"], settings["resamples"], settings["seed"]
    compared = flag(compare(frame, *resampling), tables.read(GATES, gates).to_pandas())
    tables.write(COMPARISONS, comparisons, compared, {"settings": settings})
    correlated = correlate(frame, *resampling, headline)
    tables.write(CORRELATIONS, correlations, correlated, {"settings": settings})
    followed = along(tables.read(TRAJECTORY, trajectory).to_pandas())
    judged = Settings(*resampling, settings["attack"], headline)
    verdicts = doubt(conclude(frame, correlated, followed, judged), tables.read(GATES, gates).to_pandas())
    tables.write(CONJECTURES, conjectures, verdicts, {"settings": settings})


def along(trajectory: pd.DataFrame) -> pd.DataFrame:
    """A row per checkpoint of pretraining: its accuracy and the mean over layers of the relative gap."""
    checkpoint = ["arch", "seed", "epoch", "accuracy"]
    by_layer = trajectory.groupby([*checkpoint, "layer"], sort=False)["sigma"]
    gaps = by_layer.agg(lambda sigma: relative_gap(sigma.to_numpy())).rename("relative_fairness_gap_mean")
    return gaps.groupby(checkpoint, sort=False).mean().reset_index()
