"""Fairness under attack: robust accuracy per class on test images, its spread and its minimum.

The robustness of classes differs more than their accuracy (Xu et al. 2021, arXiv:2010.06121; Benz et al. 2021,
arXiv:2010.13365). An image is robust at radius e if no perturbation that the attack found within e fools the model; at
radius 0 this is accuracy on the attacked images. Forgotten classes are left out.
"""

from unlearn.api.metrics import Evidence, Metric, MetricError, Row, Rows, disparity, per_class

METRICS = {
    "class_robust_accuracy": Metric("robust accuracy of a class", "match_retrain", 0, 1),
    "class_robust_disparity": Metric("class disparity under attack", "min", 0, 1),
    "worst_class_robust_accuracy": Metric("worst class under attack", "max", 0, 1),
}


def compute(run: Evidence) -> Rows:
    """Per attack and radius; n counts the attacked images of a class, or of the smallest."""
    attacked = run.adversarial[(run.adversarial["role"] == "test") & run.counted(run.adversarial)]
    if attacked.empty:
        raise MetricError("no attacked images of role 'test'")
    for attack, images in attacked.groupby("attack", sort=False):
        if attack not in run.radii:
            raise MetricError(f"no radii for attack {attack!r}")
        labels, fooled_at = images["label"].to_numpy(), images["eps"].to_numpy(float)
        for eps in (0.0, *run.radii[attack]):
            classes, values, sizes = per_class(labels, ~(fooled_at <= eps))  # NaN: never fooled
            keys = {"role": "test", "attack": attack, "eps": eps}
            for label, value, size in zip(classes, values, sizes, strict=True):
                yield Row("class_robust_accuracy", float(value), int(size), label=int(label), **keys)
            yield disparity("class_robust_disparity", values, sizes, **keys)
            yield Row("worst_class_robust_accuracy", float(values.min()), int(sizes.min()), **keys)
