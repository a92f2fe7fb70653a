"""Fairness of outcomes between classes, beyond disparity and worst class, and what unlearning did to it.

On test images, with a_c the accuracy on class c, over the classes that are not forgotten whole:

- ``class_accuracy_std``, the population standard deviation of a_c, and ``class_accuracy_ratio``,
  min_c a_c / max_c a_c, 1 where no class is ever right: all are equal then.
- ``fpr_spread``, max_c - min_c of the false positive rate of class c against the rest: the share of
  images of other classes that are taken for c. The true positive rate is a_c, so that
  ``equalised_odds``, the larger spread of the two rates, is the analogue for classes of the
  equalised-odds difference between groups (Hardt et al. 2016, arXiv:1610.02413; as a difference in
  Agarwal et al. 2018, arXiv:1803.02453).
- ``demographic_parity``, max_c - min_c of (share of images predicted as c) - (share of images of c).
  Between groups, demographic parity asks for equal shares of predictions; classes of different
  sizes cannot have those, so the true share is taken off.
- ``induced_disparity_*``, max_c d_c - min_c d_c of d_c = a_c - a_c of the reference, exact retraining
  or the original: 0 where all classes gained or lost alike. ``class_disparity_gap`` is
  |disparity - retrain's|, which is 0 also where other classes are favoured.
"""

import numpy as np

from unlearn.api.metrics import Evidence, Metric, MetricError, References, Row, Rows, per_class

METRICS = {
    "class_accuracy_std": Metric("standard deviation over classes", "min", 0, 0.5),
    "class_accuracy_ratio": Metric("worst / best class", "max", 0, 1),
    "fpr_spread": Metric("false positive rates, max - min", "min", 0, 1),
    "equalised_odds": Metric("equalised-odds difference", "min", 0, 1),
    "demographic_parity": Metric("demographic-parity difference", "min", 0, 2),
    "induced_disparity_retrain": Metric("disparity induced, from retrain", "min", 0, 2),
    "induced_disparity_original": Metric("disparity induced, from the original", "min", 0, 2),
    "class_disparity_gap": Metric("|class disparity - retrain's|", "min", 0, 1),
}


def ratio(values: np.ndarray) -> float:
    """min / max, 1 where all are 0.

    >>> ratio(np.array([0.5, 1.0]))
    0.5
    """
    return float(values.min() / values.max()) if values.max() > 0 else 1.0


def false_positive_rates(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """For each class there is, ascending, the share of images of other classes that are taken for it.

    >>> false_positive_rates(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]))
    array([0.        , 0.66666667, 0.        ])
    """
    classes, sizes = np.unique(labels, return_counts=True)
    taken = (predicted == classes[:, None]) & (labels != classes[:, None])
    return taken.sum(1) / (len(labels) - sizes)


def excess_shares(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """For each class there is, ascending, its share of the predictions less its share of the images.

    >>> excess_shares(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    array([-0.25,  0.25])
    """
    classes, sizes = np.unique(labels, return_counts=True)
    return ((predicted == classes[:, None]).sum(1) - sizes) / len(labels)


def compute(run: Evidence) -> Rows:
    """n is the size of the smallest class there."""
    labels, logits = run.of_role("test")
    predicted = logits.argmax(1)
    classes, values, sizes = per_class(labels, predicted == labels)
    if len(classes) < 2:
        raise MetricError("test images are of one class; fairness between classes needs two")
    fpr_spread = np.ptp(false_positive_rates(labels, predicted))
    for name, value in {
        "class_accuracy_std": values.std(),
        "class_accuracy_ratio": ratio(values),
        "fpr_spread": fpr_spread,
        "equalised_odds": max(np.ptp(values), fpr_spread),
        "demographic_parity": np.ptp(excess_shares(labels, predicted)),
    }.items():
        yield Row(name, float(value), int(sizes.min()), role="test")


def compute_relative(run: Evidence, references: References) -> Rows:
    """n is the size of the smallest class there."""
    for name, reference in vars(references).items():
        labels, own, other = run.beside(reference, "test")
        (_, values, sizes), (_, theirs, _) = (per_class(labels, x.argmax(1) == labels) for x in (own, other))
        smallest = int(sizes.min())
        yield Row(f"induced_disparity_{name}", float(np.ptp(values - theirs)), smallest, role="test")
        if name == "retrain":
            yield Row("class_disparity_gap", float(abs(np.ptp(values) - np.ptp(theirs))), smallest, role="test")
