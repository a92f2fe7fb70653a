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
is what unlearning left.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from unlearn.api.metrics import Evidence, Features, Metric, MetricError, References, Row, Rows

NEEDS = ("features",)
METRICS = {
    "probe_accuracy": Metric("accuracy of a linear probe", "match_retrain", 0, 1),
    "probe_excess": Metric("accuracy of a linear probe - retrain's", "match_retrain", -1, 1),
}

C = 1.0
KEYS = ["role", "layer"]


def halves(features: Features) -> np.ndarray:
    """The half 0 or 1 of each image, [N]: within a role in turn by class, then by id. Classes are in the order of their
    smallest ids, since their names mean nothing."""
    images = features.images.assign(first=features.images.groupby(["role", "label"])["id"].transform("min"))
    return (images.sort_values(["first", "id"]).groupby("role").cumcount() % 2).sort_index().to_numpy()


def fitted(x: np.ndarray, y: np.ndarray, half: np.ndarray, c: float) -> tuple[Pipeline, Pipeline]:
    """Probes for the labels ``y`` [N] of features [N, D], each fitted on one half. Raises MetricError for a half with
    fewer than two labels."""
    if fewest := [i for i in (0, 1) if len(np.unique(y[half == i])) < 2]:
        raise MetricError(f"a half of the images has {len(np.unique(y[half == fewest[0]]))} labels; a probe needs two")
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
    if forget.sum() < 2:
        raise MetricError("there is one forget image; probes need one to be fitted on and one to be judged on")
    for layer, x in known.layers.items():
        probes = fitted(x, y, half, C)
        told = np.where(half[forget], *(probe.predict(x[forget]) for probe in probes))
        yield Row("probe_accuracy", float((told == y[forget]).mean()), len(told), role="forget", layer=layer)
        right = [probe.predict(test.layers[layer]) == test.images["label"].to_numpy() for probe in probes]
        yield Row("probe_accuracy", float(np.mean(right)), len(test.images), role="test", layer=layer)


def compute_relative(run: Evidence, references: References) -> Rows:
    """Per layer and role; n as in ``compute``. Raises MetricError if the reference was probed otherwise."""
    own, other = (e.metrics[e.metrics["metric"] == "probe_accuracy"].set_index(KEYS) for e in (run, references.retrain))
    if set(own.index) != set(other.index):
        raise MetricError("the reference was probed at other layers or on other roles")
    for keys, row in own.iterrows():
        value = float(row["value"] - other.loc[keys, "value"])
        yield Row("probe_excess", value, int(row["n"]), **dict(zip(KEYS, keys, strict=True)))
