"""Every cell of a study over its seeds, beside exact retraining with the same seeds."""

import numpy as np
import pandas as pd
from scipy import stats

from unlearn.tables import CELL_KEY, DETAIL_KEY

REFERENCE = ("retrain", "all")
GROUP = ["arch", "forget", "metric", *DETAIL_KEY]
KEY = [*CELL_KEY, "metric", *DETAIL_KEY]


class AnalysisError(ValueError):
    """Metrics that cannot be analysed, such as a missing reference."""


def interval(values: np.ndarray, confidence: float) -> tuple[float | None, float | None]:
    """Student's t interval of the mean; (None, None) for fewer than two values.

    >>> interval(np.array([1.0, 3.0]), 0.5)
    (1.0, 3.0)
    """
    if len(values) < 2:
        return None, None
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return round(float(values.mean() - half), 15), round(float(values.mean() + half), 15)


def paired_p(differences: np.ndarray) -> float | None:
    """Two-sided p of a paired t test; None where the spread over seeds says nothing."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return None
    return float(stats.ttest_1samp(differences, 0).pvalue)


def compare(metrics: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rows of the comparisons table. ``gap`` is the mean over seeds of run - retrain.

    Raises AnalysisError if a run's metric has no counterpart from exact retraining.
    """
    reference = metrics[(metrics["method"] == REFERENCE[0]) & (metrics["scope"] == REFERENCE[1])]
    keys = [*GROUP, "seed"]
    joined = metrics.merge(reference[[*keys, "value"]], on=keys, how="left", suffixes=("", "_reference"))
    if (missing := joined["value_reference"].isna()).any():
        row = joined[missing].iloc[0]
        raise AnalysisError(
            f"no exact retraining for {row['arch']}, {row['forget']}, seed {row['seed']}: {row['metric']}"
        )
    found = []
    for key, cell in joined.groupby(KEY, sort=False, dropna=False):
        cell = cell.sort_values("seed")
        values = cell["value"].to_numpy(float)
        differences = values - cell["value_reference"].to_numpy(float)
        low, high = interval(values, confidence)
        gap_low, gap_high = interval(differences, confidence)
        found.append(
            (*key, values.mean(), low, high, differences.mean(), gap_low, gap_high, paired_p(differences), len(values))
        )
    columns = [*KEY, "mean", "low", "high", "gap", "gap_low", "gap_high", "p", "n"]
    return pd.DataFrame(found, columns=columns).astype(
        {"class": "Int64", **dict.fromkeys(("role", "attack", "layer"), "string")}
    )
