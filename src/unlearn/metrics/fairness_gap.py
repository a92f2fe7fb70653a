"""The fairness-gap of Tran & Woo 2025 (arXiv:2504.13610).

For normalization layer l and class c, sigma_c^l is the standard deviation of the layer's activations over the images of
c, and epsilon^l = max_c sigma_c^l - min_c sigma_c^l. The relative form divides by mean_c sigma_c^l: only it compares
architectures. Forgotten classes are left out.

``first``, ``intermediate`` and ``last`` are means over thirds of the layers in order of depth; if the number does not
divide by three, the earlier thirds are a layer longer. A network with fewer than three layers has no thirds.
"""

import math

import numpy as np

from unlearn.api.metrics import ONE_CLASS, Evidence, Metric, Row, Rows, no_value

METRICS = {
    "fairness_gap": Metric("fairness-gap of a layer", "match_retrain", 0),
    "fairness_gap_mean": Metric("fairness-gap", "match_retrain", 0),
    "fairness_gap_max": Metric("largest fairness-gap", "match_retrain", 0),
    "fairness_gap_first": Metric("fairness-gap, first third", "match_retrain", 0),
    "fairness_gap_intermediate": Metric("fairness-gap, second third", "match_retrain", 0),
    "fairness_gap_last": Metric("fairness-gap, last third", "match_retrain", 0),
    "relative_fairness_gap": Metric("relative fairness-gap of a layer", "match_retrain", 0),
    "relative_fairness_gap_mean": Metric("relative fairness-gap", "match_retrain", 0),
    "relative_fairness_gap_max": Metric("largest relative fairness-gap", "match_retrain", 0),
    "relative_fairness_gap_first": Metric("relative fairness-gap, first third", "match_retrain", 0),
    "relative_fairness_gap_intermediate": Metric("relative fairness-gap, second third", "match_retrain", 0),
    "relative_fairness_gap_last": Metric("relative fairness-gap, last third", "match_retrain", 0),
}

THIRDS = ("first", "intermediate", "last")


def gap(sigma: np.ndarray) -> float:
    """max - min over classes.

    >>> gap(np.array([1.0, 4.0, 2.0]))
    3.0
    """
    return float(sigma.max() - sigma.min())


def relative_gap(sigma: np.ndarray) -> float:
    """(max - min) / mean over classes. A layer whose activations are constant has no gap: 0.

    >>> relative_gap(np.array([1.0, 4.0, 1.0]))
    1.5
    """
    return gap(sigma) / float(sigma.mean()) if sigma.max() > 0 else 0.0


def compute(run: Evidence) -> Rows:
    """Per role: each layer, where n counts images, and the mean, the maximum and the thirds, where n counts layers."""
    frame = run.activations[
        ~run.activations["class"].isin(run.forgotten_classes) | (run.activations["role"] == "forget")
    ]
    if run.activations.empty:
        parts = ("mean", "max", *THIRDS)
        names = (f"{prefix}_{part}" for prefix in ("fairness_gap", "relative_fairness_gap") for part in parts)
        yield from (no_value(name, "the model has no normalization layers", role="test") for name in names)
    for role, of_role in frame.groupby("role", sort=False):
        reason = ONE_CLASS if of_role["class"].nunique() < 2 else None
        for prefix, formula in (("fairness_gap", gap), ("relative_fairness_gap", relative_gap)):
            values = []
            for (_, layer), of_layer in of_role.groupby(["depth", "layer"]):
                values.append(math.nan if reason else formula(of_layer["sigma"].to_numpy()))
                yield Row(prefix, values[-1], int(of_layer["count"].sum()), role=role, layer=layer, reason=reason)
            yield Row(f"{prefix}_mean", float(np.mean(values)), len(values), role=role, reason=reason)
            yield Row(f"{prefix}_max", max(values), len(values), role=role, reason=reason)
            if len(values) >= len(THIRDS):
                for third, part in zip(THIRDS, np.array_split(values, len(THIRDS)), strict=True):
                    yield Row(f"{prefix}_{third}", float(part.mean()), len(part), role=role, reason=reason)
