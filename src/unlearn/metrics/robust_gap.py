"""How much more or less robust a run is than exact retraining, per attack, radius and role.

Negative: a new vulnerability. On forget images positive means residual knowledge: perturbed
forgotten images are recognised more often than by a model that never saw them.
"""

from unlearn.metrics import Evidence, Metric, MetricError, References, Row, Rows

METRICS = {"robust_accuracy_gap": Metric("robust accuracy - retrain's", "match_retrain", -1, 1)}

KEYS = ["role", "attack", "eps"]


def compute_relative(run: Evidence, references: References) -> Rows:
    own, other = (
        e.metrics[e.metrics["metric"] == "robust_accuracy"].set_index(KEYS)[["value", "n"]]
        for e in (run, references.retrain)
    )
    if set(own.index) != set(other.index):
        raise MetricError("the reference was attacked with other attacks, radii or roles")
    for keys, row in own.iterrows():
        value = float(row["value"] - other.loc[keys, "value"])
        yield Row("robust_accuracy_gap", value, int(row["n"]), **dict(zip(KEYS, keys, strict=True)))
