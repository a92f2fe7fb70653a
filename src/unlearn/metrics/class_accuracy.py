"""Fairness of outcomes between classes: accuracy per class on test images, its spread, its minimum."""

import numpy as np

from unlearn.metrics import Evidence, Metric, Row, Rows
from unlearn.metrics.accuracy import accuracy

METRICS = {
    "class_accuracy": Metric("accuracy of a class", "match_retrain", 0, 1),
    "class_disparity": Metric("class disparity", "min", 0, 1),
    "worst_class_accuracy": Metric("worst class", "max", 0, 1),
}


def compute(run: Evidence) -> Rows:
    """disparity = max_c a_c - min_c a_c; n is the size of the smallest class there."""
    labels, logits = run.of_role("test")
    classes, sizes = np.unique(labels, return_counts=True)
    values = [accuracy(labels[labels == c], logits[labels == c]) for c in classes]
    for label, value, size in zip(classes, values, sizes, strict=True):
        yield Row("class_accuracy", value, int(size), role="test", label=int(label))
    yield Row("class_disparity", max(values) - min(values), int(sizes.min()), role="test")
    yield Row("worst_class_accuracy", min(values), int(sizes.min()), role="test")
