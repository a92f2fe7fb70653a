"""How much more or less robust a run is than exact retraining, per attack and role.

Signed, per radius and over the whole curve. Negative: a new vulnerability; on forget images positive means
residual knowledge: perturbed forgotten images are recognised more often than by a model that never saw
them. ``robust_curve_distance`` is the mean over the radii of the absolute gap.
"""

from unlearn.api.metrics import Evidence, Metric, MetricError, References, Row, Rows

REQUIRES = ("robust_accuracy",)
METRICS = {
    "robust_accuracy_gap": Metric("robust accuracy - retrain's", "match_retrain", -1, 1),
    "aurc_gap": Metric("AURC - retrain's", "match_retrain", -1, 1),
    "robust_curve_distance": Metric("distance of robust accuracy curves", "min", 0, 1),
}

KEYS = ["role", "attack", "eps"]


def compute_relative(run: Evidence, references: References) -> Rows:
    own, other = (_indexed(e, "robust_accuracy", KEYS) for e in (run, references.retrain))
    if set(own.index) != set(other.index):
        raise MetricError("the reference was attacked with other attacks, radii or roles")
    gap = own["value"] - other["value"].reindex(own.index)
    for keys, value in gap.items():
        yield Row("robust_accuracy_gap", float(value), int(own.loc[keys, "n"]), **dict(zip(KEYS, keys, strict=True)))
    attacked = gap[gap.index.get_level_values("eps") > 0].abs()
    for (role, attack), distances in attacked.groupby(level=["role", "attack"], sort=False):
        yield Row("robust_curve_distance", float(distances.mean()), len(distances), role=role, attack=attack)
    own, other = (_indexed(e, "aurc", KEYS[:2]) for e in (run, references.retrain))
    for (role, attack), row in own.iterrows():
        value = float(row["value"] - other.loc[(role, attack), "value"])
        yield Row("aurc_gap", value, int(row["n"]), role=role, attack=attack)


def _indexed(evidence: Evidence, metric: str, keys: list[str]):
    return evidence.metrics[evidence.metrics["metric"] == metric].set_index(keys)[["value", "n"]]
