"""Fairness of outcomes between classes: accuracy per class on test images, its spread, its minimum."""

from unlearn.api.metrics import Evidence, Metric, Row, Rows, disparity, per_class

METRICS = {
    "class_accuracy": Metric("accuracy of a class", "match_retrain", 0, 1),
    "class_disparity": Metric("class disparity", "min", 0, 1),
    "worst_class_accuracy": Metric("worst class", "max", 0, 1),
}


def compute(run: Evidence) -> Rows:
    """The disparity is max_c a_c - min_c a_c. n counts the images of a class, or of the smallest."""
    labels, logits = run.of_role("test")
    classes, values, sizes = per_class(labels, logits.argmax(1) == labels)
    for label, value, size in zip(classes, values, sizes, strict=True):
        yield Row("class_accuracy", float(value), int(size), role="test", label=int(label))
    yield disparity("class_disparity", values, sizes, role="test")
    yield Row("worst_class_accuracy", float(values.min()), int(sizes.min()), role="test")
