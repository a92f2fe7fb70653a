"""Fairness of outcomes between classes, beyond disparity and worst class, and what unlearning changed in it.

On test images, with a_c the accuracy on class c, over the classes that are not forgotten whole:

- ``class_accuracy_std``, the population standard deviation of a_c, and ``class_accuracy_ratio``, min_c a_c / max_c a_c,
  which is 1 where no class is ever right, since all are equal then.
- ``fpr_spread``, max_c - min_c of the false positive rate of class c: the share of images of other classes that are
  taken for c. The true positive rate of c is a_c, so ``equalised_odds``, the larger spread of the two rates, is the
  analogue for classes of the equalised-odds difference between groups (Hardt et al. 2016, arXiv:1610.02413; as a
  difference in Agarwal et al. 2018, arXiv:1803.02453).
- ``demographic_parity``, max_c - min_c of (share of images predicted as c) - (share of images of c). Between groups,
  demographic parity asks for equal shares of predictions; classes of different sizes cannot have those, so the true
  share is subtracted.
- ``induced_disparity_*``, max_c d_c - min_c d_c where d_c is a_c minus that of the reference, exact retraining or the
  original: 0 where all classes gained or lost alike. ``class_disparity_gap`` is |disparity - retrain's|, which is also
  0 where other classes are favoured to the same degree.
"""

import numpy as np

from unlearn.api.metrics import ONE_CLASS, Evidence, Metric, References, Row, Rows, disparity, no_value, per_class

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

ABSOLUTE = ("class_accuracy_std", "class_accuracy_ratio", "fpr_spread", "equalised_odds", "demographic_parity")


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
    """n counts the images of the smallest class."""
    labels, logits = run.of_role("test")
    predicted = logits.argmax(1)
    classes, values, sizes = per_class(labels, predicted == labels)
    n = int(sizes.min())
    if len(classes) < 2:
        yield from (no_value(name, ONE_CLASS, n, role="test") for name in ABSOLUTE)
        return
    fpr_spread = np.ptp(false_positive_rates(labels, predicted))
    spreads = (
        values.std(),
        ratio(values),
        fpr_spread,
        max(np.ptp(values), fpr_spread),
        np.ptp(excess_shares(labels, predicted)),
    )
    for name, value in zip(ABSOLUTE, spreads, strict=True):
        yield Row(name, float(value), n, role="test")


def compute_relative(run: Evidence, references: References) -> Rows:
    """n counts the images of the smallest class."""
    for control, reference in vars(references).items():
        own, theirs, sizes = _accuracies(run, reference)
        yield disparity(f"induced_disparity_{control}", own - theirs, sizes, role="test")
    own, theirs, sizes = _accuracies(run, references.retrain)
    spread = disparity("class_disparity_gap", own, sizes, role="test")
    yield spread._replace(value=abs(spread.value - float(np.ptp(theirs))))


def _accuracies(run: Evidence, reference: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracy per class of both, on the same test images, and the sizes of the classes, each [K]."""
    labels, *logits = run.beside(reference, "test")
    (_, own, sizes), (_, theirs, _) = (per_class(labels, each.argmax(1) == labels) for each in logits)
    return own, theirs, sizes
