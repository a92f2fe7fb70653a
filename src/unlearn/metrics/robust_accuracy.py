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
    """drop = clean - robust accuracy, on the attacked images."""
    attacked = run.adversarial[run.counted(run.adversarial)]
    clean = run.predictions.assign(clean=run.logits.argmax(1) == run.predictions["label"]).set_index("id")["clean"]
    for (attack, role, eps), group in attacked.groupby(["attack", "role", "eps"], sort=False):
        missing = ~group["id"].isin(clean.index)
        if missing.any():
            raise MetricError(f"attack {attack!r} has {missing.sum()} images without a prediction")
        value = float((group["predicted"] == group["label"]).mean())
        keys = {"role": role, "attack": attack, "eps": eps}
        yield Row("robust_accuracy", value, len(group), **keys)
        yield Row("robustness_drop", float(clean[group["id"]].mean()) - value, len(group), **keys)
