"""Linear probes: can the labels of forgotten images be read from a layer's features?

A model whose head alone was changed errs on what was to be forgotten, while its features still tell it: a new linear
head restores the accuracy (probes for hidden concepts: Alain & Bengio 2016, arXiv:1610.01644; for unlearning Jeon et
al. 2026, arXiv:2405.17878, who train a new head on frozen features). For each layer a multinomial logistic
regression is fitted on the features of one half of the sampled retain and forget images, labels and all, and judged on
the other half's forget images; then the other way round. So each forget image is judged once, by a probe that has not
seen it. Test images are judged by both probes.

The probe: features standardised on the half that it is fitted on, L2 penalty with C = 1 (scikit-learn's), classes
weighted so that all count alike; otherwise a class of which the sample holds more, such as one that is forgotten whole,
is guessed for want of features. The halves alternate class by class in order of id, within retain and forget, so they
are alike in all runs.

Features of exact retraining tell much of what it never saw, since classes share features; the excess over its accuracy
is what unlearning left. ``probe_gap`` sums it up as the average gap does for outputs: the mean over layers of the
distance from retraining on forget images, whichever its sign.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from unlearn.api.metrics import Evidence, Features, Metric, References, Row, Rows, Undefined, no_value, paired

NEEDS = ("features",)
METRICS = {
    "probe_accuracy": Metric("accuracy of a linear probe", "match_retrain", 0, 1),
    "probe_excess": Metric("accuracy of a linear probe - retrain's", "match_retrain", -1, 1),
    "probe_gap": Metric("|accuracy of a linear probe - retrain's|, mean over layers", "min", 0, 1),
}

C = 1.0
KEYS = ["role", "layer"]


def halves(features: Features) -> np.ndarray:
    """The half 0 or 1 of each image, [N]: within a role in turn by class, then by id. Classes are in the order of their
    smallest ids, since their names mean nothing."""
    images = features.images.assign(first=features.images.groupby(["role", "label"])["id"].transform("min"))
    return (images.sort_values(["first", "id"]).groupby("role").cumcount() % 2).sort_index().to_numpy()


def fitted(x: np.ndarray, y: np.ndarray, half: np.ndarray, c: float) -> tuple[Pipeline, Pipeline]:
    """Probes for the labels ``y`` [N] of features [N, D], each fitted on one half. Raises Undefined for a half with
    fewer than two labels."""
    if fewest := [i for i in (0, 1) if len(np.unique(y[half == i])) < 2]:
        raise Undefined(f"a half of the images has {len(np.unique(y[half == fewest[0]]))} labels; a probe needs two")
    regression = {"C": c, "class_weight": "balanced", "max_iter": 5000}
    return tuple(
        make_pipeline(StandardScaler(), LogisticRegression(**regression)).fit(x[half == i], y[half == i])
        for i in (0, 1)
    )


def compute(run: Evidence) -> Rows:
    """Per layer, on forget and on test images, which n counts."""
    known, test = run.features_of("retain", "forget"), run.features_of("test")
    y, half = known.images["label"].to_numpy(), halves(known)
    forget = (known.images["role"] == "forget").to_numpy()
    n = {"forget": int(forget.sum()), "test": len(test.images)}
    for layer, x in known.layers.items():
        try:
            if n["forget"] < 2:
                raise Undefined("there is one forget image; probes need one to be fitted on and one to be judged on")
            probes = fitted(x, y, half, C)
        except Undefined as error:
            yield from (no_value("probe_accuracy", str(error), n[role], role=role, layer=layer) for role in n)
            continue
        told = np.where(half[forget], *(probe.predict(x[forget]) for probe in probes))
        yield Row("probe_accuracy", float((told == y[forget]).mean()), n["forget"], role="forget", layer=layer)
        right = [probe.predict(test.layers[layer]) == test.images["label"].to_numpy() for probe in probes]
        yield Row("probe_accuracy", float(np.mean(right)), n["test"], role="test", layer=layer)


def compute_relative(run: Evidence, references: References) -> Rows:
    """Excess per layer and role; gap on forget images; n as in ``compute``."""
    gaps = []
    for keys, own, exact, n, reason in paired(run, references.retrain, "probe_accuracy", KEYS):
        row = Row("probe_excess", own - exact, n, **keys, reason=reason)
        gaps += [row] if keys["role"] == "forget" else []
        yield row
    reason = next((row.reason for row in gaps if row.reason), None)
    yield Row("probe_gap", float(np.mean([abs(row.value) for row in gaps])), gaps[0].n, reason=reason)
