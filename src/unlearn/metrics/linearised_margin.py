"""Linearised margin: how far a model's decision is, to first order, in one gradient per image.

(f_y - max_k f_k) / ||gradient of that difference||_1 over the classes k other than y, in [0, 1] pixels
of the L-infinity norm; negative where the image is wrong. For a linear model of two classes it is
the exact radius (Hein & Andriushchenko 2017, arXiv:1705.08475); with more, k is the runner-up, so it is an
upper bound. It does not change when logits are scaled, as the norm of a
gradient does, and ranks images much like the smallest radius that an attack finds. Medians, since an image
whose gradient nearly vanishes has any margin.
"""

import numpy as np

from unlearn.api.metrics import Evidence, Metric, MetricError, Row, Rows

METRICS = {
    "linearised_margin": Metric("linearised margin", "match_retrain"),
    "no_gradient": Metric("images without gradient", "min", 0, 1),
}


def compute(run: Evidence) -> Rows:
    """Per role the median over images that have a gradient, and the share of those that have none."""
    counted = run.predictions[run.counted(run.predictions)]
    for role, images in counted.groupby("role", sort=False):
        margins = images["margin"].to_numpy(float)
        present = np.isfinite(margins)
        if not present.any():
            raise MetricError(f"no image of role {role!r} has a gradient")
        yield Row("linearised_margin", float(np.median(margins[present])), int(present.sum()), role=role)
        yield Row("no_gradient", float(1 - present.mean()), len(images), role=role)
