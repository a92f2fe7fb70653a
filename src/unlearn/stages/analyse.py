"""analyse: the study-wide statistics."""

from typing import Any

from unlearn import tables
from unlearn.analysis.comparisons import compare
from unlearn.analysis.conjectures import Settings, conclude
from unlearn.analysis.correlations import correlate
from unlearn.provenance import record


def analyse(metrics: str, comparisons: str, correlations: str, conjectures: str, settings: dict[str, Any]) -> None:
    """``settings``: confidence, resamples, seed, the headline radius of each attack, and the attack that
    conjectures are judged by.
    """
    frame, chosen = tables.read("metrics", metrics).to_pandas(), Settings(**settings)
    resampling = chosen.confidence, chosen.resamples, chosen.seed
    tables.write("comparisons", comparisons, compare(frame, *resampling), record(settings))
    correlated = correlate(frame, *resampling, chosen.headlines)
    tables.write("correlations", correlations, correlated, record(settings))
    tables.write("conjectures", conjectures, conclude(frame, correlated, None, chosen), record(settings))
