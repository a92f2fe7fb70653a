"""Robust accuracy per attack, radius and role, and how far it drops from clean accuracy.

An image counts as robust at eps if it is classified correctly and no perturbation the attack found
within eps changes that.
"""

from unlearn.metrics import Evidence, Metric, MetricError, Row, Rows

METRICS = {
    "robust_accuracy": Metric("robust accuracy", "match_retrain", 0, 1),
    "robustness_drop": Metric("robustness drop", "match_retrain", 0, 1),
}


def compute(run: Evidence) -> Rows:
    """The drop is clean - robust accuracy on the attacked images; robust accuracy at eps 0 is clean."""
    attacked = run.adversarial[run.counted(run.adversarial)]
    correct = (run.logits.argmax(1) == run.predictions["label"]).set_axis(run.predictions["id"])
    for (attack, role), images in attacked.groupby(["attack", "role"], sort=False):
        ids = images["id"].drop_duplicates()
        if missing := (~ids.isin(correct.index)).sum():
            raise MetricError(f"attack {attack!r} has {missing} images without a prediction")
        clean = float(correct[ids].mean())
        yield Row("robust_accuracy", clean, len(ids), role=role, attack=attack, eps=0.0)
        for eps, group in images.groupby("eps", sort=False):
            value = float((group["predicted"] == group["label"]).mean())
            keys = {"role": role, "attack": attack, "eps": eps}
            yield Row("robust_accuracy", value, len(group), **keys)
            yield Row("robustness_drop", clean - value, len(group), **keys)
