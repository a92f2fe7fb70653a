"""Linearised margin: the distance of a model's decision to first order, from one gradient per image.

(f_y - max_k f_k) / ||gradient of that difference||_1 over the classes k other than y, in [0, 1] pixels of the
L-infinity norm; negative where the model is wrong. For a linear model of two classes it is the exact radius (Hein &
Andriushchenko 2017, arXiv:1705.08475); with more classes k is the runner-up, so it is an upper bound. Unlike the norm
of a gradient it does not change when logits are scaled, and it ranks images much like the smallest radius that an
attack finds. The metric is a median, since an image whose gradient nearly vanishes can have any margin.
"""

import numpy as np

from unlearn.api.metrics import Evidence, Metric, Row, Rows, no_value

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
        if present.any():
            yield Row("linearised_margin", float(np.median(margins[present])), int(present.sum()), role=role)
        else:
            yield no_value("linearised_margin", "no image has a gradient: the logits do not depend on it", role=role)
        yield Row("no_gradient", float(1 - present.mean()), len(images), role=role)
