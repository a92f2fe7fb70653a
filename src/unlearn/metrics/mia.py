"""Membership attacks on one score of the model's output: do forgotten images look seen or unseen?

Each attack takes an image for a member if its score reaches a threshold, which is fitted on every
second retain (member) and test (non-member) image by id. On the other half it is reported how good
the attack is (``*_attack``: the mean of the shares of members and of non-members told right, which
gives both the same weight; 0.5 is chance), on the forget set the share judged non-member. Without
the first the second means little: what no attack can tell apart has any efficacy.

- ``mia_correctness``: a member is what is classified correctly; needs no fit. The efficacy is UA.
- ``mia_entropy``, ``mia_modified_entropy``: the threshold of best balanced accuracy on the entropy
  of the softmax output p, and on its modification that knows the label y,
  -(1 - p_y) log p_y - sum_{k != y} p_k log(1 - p_k) (Song & Mittal 2021, arXiv:2003.10595). Low
  values are members. They fit a threshold for each class; here one serves all, since half the test
  images of one class are too few to fit one.
- ``mia_loss``: the same on the cross-entropy loss. ``mia_yeom``: the threshold is the mean loss of
  members (Yeom et al. 2018, arXiv:1709.01604), which takes no non-members to know.
- ``mia_logistic``: accuracy of a logistic regression on the loss that tells forget from test images,
  as many of each, by cross-validation over ten folds (one for each image where there are fewer); 0.5 if
  forgotten images are like unseen ones. The attack of the NeurIPS 2023 unlearning challenge, with
  losses up to 100 as in SCRUB (Kurmanji et al. 2023, arXiv:2302.09880). A model that errs more on
  forgotten than on unseen images is told apart as well. Where a class is forgotten whole, test
  images are those of other classes, so classes differ too: compare with retrain's value.

Folds and halves alternate in order of id, so that no random numbers enter.
"""

import numpy as np
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score

from unlearn.api.metrics import Evidence, Metric, MetricError, Row, Rows

THRESHOLDS = ("correctness", "entropy", "modified_entropy", "loss", "yeom")
LABELS = dict(zip(THRESHOLDS, ("correctness", "entropy", "modified entropy", "loss", "mean loss"), strict=True))
METRICS = {
    **{f"mia_{name}": Metric(f"MIA by {label}", "match_retrain", 0, 1) for name, label in LABELS.items()},
    **{f"mia_{name}_attack": Metric(f"attack by {label}", "info", 0, 1) for name, label in LABELS.items()},
    "mia_logistic": Metric("forget told from test", "match_retrain", 0, 1),
}

FOLDS = 10
LARGEST_LOSS = 100.0


def probabilities(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p and log(1 - p) of the softmax output, both [N, C], to full relative precision.

    >>> p, q = probabilities(np.array([[0.0, 40.0]]))
    >>> p[0, 1] < 0, np.isclose(q[0, 1], -40)
    (np.True_, np.True_)
    """
    z = logits.astype(np.float64)
    rows, top = np.arange(len(z)), z.argmax(1)
    others = z.copy()
    others[rows, top] = -np.inf
    # The odds against the largest output; log(1 - p) from p would be log 0 for a confident model.
    odds = logsumexp(others, axis=1) - z[rows, top]
    log_p = z - z[rows, top][:, None] - np.logaddexp(0, odds)[:, None]
    log_not_p = np.log1p(-np.minimum(np.exp(log_p), 0.5))
    log_not_p[rows, top] = odds - np.logaddexp(0, odds)
    return log_p, log_not_p


def entropy(logits: np.ndarray) -> np.ndarray:
    """Entropy of the softmax output in nats, [N].

    >>> entropy(np.array([[0.0, 0.0], [0.0, np.log(3)]])).round(3)
    array([0.693, 0.562])
    """
    log_p, _ = probabilities(logits)
    return -(np.exp(log_p) * log_p).sum(1)


def modified_entropy(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """-(1 - p_y) log p_y - sum_{k != y} p_k log(1 - p_k), [N]; 0 if p_y is 1, unbounded if it is 0.

    >>> modified_entropy(np.array([1, 0]), np.log([[0.25, 0.75], [0.25, 0.75]])).round(3)
    array([0.144, 2.079])
    """
    log_p, log_not_p = probabilities(logits)
    rows = np.arange(len(labels))
    terms = np.exp(log_p) * log_not_p
    terms[rows, labels] = np.exp(log_not_p[rows, labels]) * log_p[rows, labels]
    return -terms.sum(1)


def loss(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Cross-entropy of the label in nats, [N].

    >>> loss(np.array([1, 0]), np.log([[0.25, 0.75], [0.25, 0.75]])).round(3)
    array([0.288, 1.386])
    """
    return -probabilities(logits)[0][np.arange(len(labels)), labels]


def best_threshold(members: np.ndarray, others: np.ndarray) -> float:
    """The score of best balanced accuracy, members being those that reach it; the least of equally good ones.

    >>> best_threshold(np.array([0.4, 0.8, 0.9]), np.array([0.1, 0.5]))
    0.8
    """
    candidates = np.unique(np.concatenate([members, others]))
    below = [np.searchsorted(np.sort(side), candidates) for side in (members, others)]
    # In whole numbers, since rounded shares would decide between equally good ones.
    return float(candidates[np.argmax(below[1] * len(members) - below[0] * len(others))])


def told_apart(forget: np.ndarray, test: np.ndarray) -> tuple[float, int]:
    """Cross-validated accuracy of the logistic attack on two sets of losses, and the number of images judged.

    Raises MetricError unless there are two of each.
    """
    count = min(len(forget), len(test))
    if count < 2:
        raise MetricError(f"{len(forget)} forget and {len(test)} test images; the logistic attack needs two of each")
    sides = [x[np.linspace(0, len(x) - 1, count).round().astype(int)].clip(max=LARGEST_LOSS) for x in (forget, test)]
    folds = PredefinedSplit(np.tile(np.arange(count) % min(FOLDS, count), 2))
    accuracies = cross_val_score(
        LogisticRegression(), np.concatenate(sides)[:, None], np.repeat([1, 0], count), cv=folds
    )
    return float(accuracies.mean()), 2 * count


def compute(run: Evidence) -> Rows:
    """n counts the forget images, for ``*_attack`` the images on which the attack is judged."""
    found = {role: run.of_role(role) for role in ("retain", "test", "forget")}
    for role in ("retain", "test"):
        if len(found[role][0]) < 2:
            raise MetricError(f"role {role!r} has one image; fitting and judging an attack needs two")
    losses = {role: loss(*of) for role, of in found.items()}
    scores = {
        "correctness": {role: (x.argmax(1) == y).astype(float) for role, (y, x) in found.items()},
        "entropy": {role: -entropy(x) for role, (_, x) in found.items()},
        "modified_entropy": {role: -modified_entropy(y, x) for role, (y, x) in found.items()},
        "loss": {role: -of for role, of in losses.items()},
    }
    for name, score in {**scores, "yeom": scores["loss"]}.items():
        members, others = score["retain"], score["test"]
        if name == "correctness":
            threshold = 1.0
        elif name == "yeom":
            threshold = members[::2].mean()
        else:
            threshold = best_threshold(members[::2], others[::2])
        yield Row(f"mia_{name}", float((score["forget"] < threshold).mean()), len(score["forget"]))
        right = (members[1::2] >= threshold).mean() + (others[1::2] < threshold).mean()
        yield Row(f"mia_{name}_attack", float(right / 2), len(members[1::2]) + len(others[1::2]))
    value, count = told_apart(losses["forget"], losses["test"])
    yield Row("mia_logistic", value, count)
