"""Information Difference Index: which share of what the original's features tell of the forget set is left.

Jeon et al. 2026 (AAAI; arXiv:2405.17878). Z_l are a model's features at layer l, Y says whether an image is to be
forgotten (1) or retained (0), and I(Z_l; Y) is their mutual information. With the sum over layers

    ID(model) = sum_l I_model(Z_l; Y) - I_retrain(Z_l; Y),    IDI = ID(run) / ID(original)

the original has IDI 1 and exact retraining 0. A negative IDI says that less is left than in a model that never saw the
forget set; the paper reports such values, so differences are not cut off at 0.

Ours is the estimate of I. The paper maximises the InfoNCE bound by a critic that fine-tunes the layers above l; here it
is a bound that needs the stored features alone: I(Z; Y) >= H(Y) - cross-entropy of any prediction of Y from Z. The
prediction is a logistic regression (standardised features, L2 penalty with C = 0.1) fitted on one half of the sampled
images and judged on the other, then the other way round; both roles weigh the same, so H(Y) = ln 2. Probabilities are
cut off at 0.01 and 0.99, so that a single image cannot outweigh all others. The bound counts what can be read linearly,
and is negative where a probe has learned what does not hold on the other half. Values are therefore not the paper's,
but have its scale. The layers are those of the features table, from the stem to the penultimate features; where a
network pools by the mean, its last group equals the latter and counts twice.

Where images are forgotten at random, no layer of the original may tell them from retained ones, or not any better than
retraining's. IDI is not defined unless both ID(original) and the original's own information are more than three
standard errors above 0. Errors are over images, paired, and leave out that probes differ too: between models that tell
equally much the ratio of ID to its error had a standard deviation of 1.3 to 1.6 instead of 1, and in none of 240 pairs
did both conditions hold.
"""

import math

import numpy as np

from unlearn.api.metrics import Evidence, Features, Metric, References, Row, Rows, Undefined, no_value
from unlearn.metrics.linear_probe import fitted, halves

NEEDS = ("features",)
METRICS = {
    "forget_information": Metric("information on the forget set", "match_retrain", -3.92, math.log(2), "nat"),
    "idi": Metric("IDI", "match_retrain"),
}

C = 0.1
FEWEST = 2
CONFIDENT = 0.99
ERRORS = 3


def compute(run: Evidence) -> Rows:
    """Per layer; n counts images."""
    features = run.features_of("retain", "forget")
    try:
        forget, values = informations(features)
    except Undefined as error:
        n = len(features.images)
        yield from (no_value("forget_information", str(error), n, layer=layer) for layer in features.layers)
        return
    for layer, of_layer in zip(features.layers, values, strict=True):
        yield Row("forget_information", balanced(of_layer, forget)[0], len(of_layer), layer=layer)


def compute_relative(run: Evidence, references: References) -> Rows:
    """n counts layers."""
    own, retrain = run.features_beside(references.retrain, "retain", "forget")
    _, original = run.features_beside(references.original, "retain", "forget")
    try:
        yield Row("idi", index(own, retrain, original), len(own.layers))
    except Undefined as error:
        yield no_value("idi", str(error), len(own.layers))


def index(own: Features, retrain: Features, original: Features) -> float:
    """IDI of a run's features. Raises Undefined where the original's tell no more than noise."""
    forget, base = informations(retrain)
    of_run, of_original = (informations(features)[1] for features in (own, original))
    left, whole, told = (balanced(x.sum(0), forget) for x in (of_run - base, of_original - base, of_original))
    if any(value <= ERRORS * error for value, error in (whole, told)):
        raise Undefined(
            f"the original's features tell {told[0]:.3g} ± {told[1]:.2g} nat of the forget set, "
            f"{whole[0]:.3g} ± {whole[1]:.2g} more than retraining's"
        )
    return left[0] / whole[0]


def informations(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is to be forgotten, [N], and H(Y) - cross-entropy of its Y in nats, [layers, N]. Raises
    Undefined for fewer than two images of a role."""
    forget, half = (features.images["role"] == "forget").to_numpy(), halves(features)
    if min(forget.sum(), (~forget).sum()) < FEWEST:
        raise Undefined(f"{forget.sum()} forget and {(~forget).sum()} retain images; probes need {FEWEST} of each")
    found = []
    for x in features.layers.values():
        told = np.where(half, *(probe.predict_proba(x)[:, 1] for probe in fitted(x, forget, half, C)))
        right = np.where(forget, told, 1 - told)
        found.append(np.log(2 * right.clip(1 - CONFIDENT, CONFIDENT)))
    return forget, np.array(found)


def balanced(values: np.ndarray, forget: np.ndarray) -> tuple[float, float]:
    """Mean of values [N], both roles weighing the same, and its standard error.

    >>> balanced(np.array([1.0, 1, 1, 4, 6]), np.array([False, False, False, True, True]))
    (3.0, 0.5)
    """
    parts = [values[forget], values[~forget]]
    error = np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)) / 2
    return float(np.mean([part.mean() for part in parts])), float(error)
