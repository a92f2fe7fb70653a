"""analyse: the study-wide statistics."""

from typing import Any

from unlearn import tables
from unlearn.analysis.comparisons import compare
from unlearn.analysis.correlations import correlate
from unlearn.provenance import record


def analyse(metrics: str, comparisons: str, correlations: str, settings: dict[str, Any]) -> None:
    """``settings``: confidence, resamples, seed."""
    frame = tables.read("metrics", metrics).to_pandas()
    tables.write("comparisons", comparisons, compare(frame, settings["confidence"]), record(settings))
    found = correlate(frame, settings["confidence"], settings["resamples"], settings["seed"])
    tables.write("correlations", correlations, found, record(settings))
