"""analyse: the study-wide statistics."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from unlearn.analysis.comparisons import compare
from unlearn.analysis.conjectures import Settings, conclude
from unlearn.analysis.correlations import correlate
from unlearn.analysis.gates import flag_comparisons, flag_conjectures
from unlearn.analysis.radii import headlines
from unlearn.io import tables
from unlearn.io.schema.comparisons import COMPARISONS
from unlearn.io.schema.conjectures import CONJECTURES
from unlearn.io.schema.correlations import CORRELATIONS
from unlearn.io.schema.gates import GATES
from unlearn.io.schema.metrics import METRICS
from unlearn.io.schema.trajectory import TRAJECTORY
from unlearn.metrics.fairness_gap import relative_gap


@dataclass(frozen=True)
class AnalysisSettings:
    """``confidence``: the level of intervals; ``resamples`` and ``seed`` of the bootstrap and of permutations;
    ``attack``: the one by which conjectures are judged; ``threat_norms``: attack → its norm."""

    confidence: float
    resamples: int
    seed: int
    attack: str
    threat_norms: Mapping[str, str]


def analyse(
    metrics: str,
    gates: str,
    radii: str,
    trajectory: str,
    comparisons: str,
    correlations: str,
    conjectures: str,
    settings: AnalysisSettings,
) -> None:
    """Compare every cell with exact retraining, correlate fairness with robustness, judge the conjectures.

    ``trajectory`` is the fairness-gap along pretraining. What a failed gate puts in doubt is flagged.
    """
    frame, gated = tables.read(METRICS, metrics).to_pandas(), tables.read(GATES, gates).to_pandas()
    headline_eps = headlines(radii, settings.threat_norms)
    resampling = settings.confidence, settings.resamples, settings.seed
    described = {"settings": settings}
    compared = flag_comparisons(compare(frame, *resampling), gated)
    tables.write(COMPARISONS, comparisons, compared, described)
    correlated = correlate(frame, *resampling, headline_eps)
    tables.write(CORRELATIONS, correlations, correlated, described)
    followed = along(tables.read(TRAJECTORY, trajectory).to_pandas())
    concluded = conclude(frame, correlated, followed, Settings(*resampling, settings.attack, headline_eps))
    tables.write(CONJECTURES, conjectures, flag_conjectures(concluded, gated), described)


def along(trajectory: pd.DataFrame) -> pd.DataFrame:
    """A row per checkpoint of pretraining: its accuracy and the mean over layers of the relative gap."""
    checkpoint = ["arch", "seed", "epoch", "accuracy"]
    by_layer = trajectory.groupby([*checkpoint, "layer"], sort=False, dropna=False)["sigma"]
    gaps = by_layer.agg(lambda sigma: relative_gap(sigma.to_numpy())).rename("relative_fairness_gap_mean")
    return gaps.groupby(checkpoint, sort=False, dropna=False).mean().reset_index()
