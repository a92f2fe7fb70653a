"""Fairness of outcomes between classes: accuracy per class on test images, its spread, its minimum."""

import numpy as np

from unlearn.metrics import Evidence, Metric, Row, Rows

METRICS = {
    "class_accuracy": Metric("accuracy of a class", "match_retrain", 0, 1),
    "class_disparity": Metric("class disparity", "min", 0, 1),
    "worst_class_accuracy": Metric("worst class", "max", 0, 1),
}


def per_class(labels: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes [K] there are, ascending, the share of each that is right, and its size.

    >>> per_class(np.array([2, 0, 2, 2]), np.array([True, True, False, True]))[1].round(2)
    array([1.  , 0.67])
    """
    classes, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return classes, np.bincount(index, weights=right) / sizes, sizes


def compute(run: Evidence) -> Rows:
    """disparity = max_c a_c - min_c a_c; n is the size of the smallest class there."""
    labels, logits = run.of_role("test")
    classes, values, sizes = per_class(labels, logits.argmax(1) == labels)
    for label, value, size in zip(classes, values, sizes, strict=True):
        yield Row("class_accuracy", float(value), int(size), role="test", label=int(label))
    yield Row("class_disparity", float(np.ptp(values)), int(sizes.min()), role="test")
    yield Row("worst_class_accuracy", float(values.min()), int(sizes.min()), role="test")
