"""How much more or less robust a run is than exact retraining, per attack and role.

``robust_accuracy_gap`` per radius and ``aurc_gap`` over the whole curve are signed. Negative: a new vulnerability; on
forget images positive means residual knowledge: perturbed forgotten images are recognised more often than by a model
that never saw them. ``robust_curve_distance`` is the mean over the radii of the absolute gap.
"""

from collections import defaultdict

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows, paired

REQUIRES = ("robust_accuracy",)
METRICS = {
    "robust_accuracy_gap": Metric("robust accuracy - retrain's", "match_retrain", -1, 1),
    "aurc_gap": Metric("AURC - retrain's", "match_retrain", -1, 1),
    "robust_curve_distance": Metric("distance of robust accuracy curves", "min", 0, 1),
}


def compute_relative(run: Evidence, references: References) -> Rows:
    """n counts images, for the distance radii. Raises MetricError if the reference was attacked otherwise."""
    curves = defaultdict(list)
    for keys, own, exact, n, reason in paired(run, references.retrain, "robust_accuracy", ["role", "attack", "eps"]):
        yield Row("robust_accuracy_gap", own - exact, n, **keys, reason=reason)
        if keys["eps"] > 0:
            curves[keys["role"], keys["attack"]].append((abs(own - exact), reason))
    for (role, attack), curve in curves.items():
        distances, reasons = zip(*curve, strict=True)
        reason = next(filter(None, reasons), None)
        value = sum(distances) / len(distances)
        yield Row("robust_curve_distance", value, len(distances), role=role, attack=attack, reason=reason)
    for keys, own, exact, n, reason in paired(run, references.retrain, "aurc", ["role", "attack"]):
        yield Row("aurc_gap", own - exact, n, **keys, reason=reason)
