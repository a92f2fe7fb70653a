"""Membership attacks on one score of the model's output: do forgotten images look seen or unseen?

Each attack takes an image for a member if its score reaches a threshold, which is fitted on every second retain image
(member) and test image (non-member) by id. The other half measures how good the attack is (``*_attack``: the mean of
the shares of members and of non-members told right, which gives both the same weight; 0.5 is chance). The metric itself
is the share of the forget set that is judged non-member. It means little if the attack is no better than chance.

- ``mia_correctness``: what is classified correctly is a member; needs no fit. The metric is UA.
- ``mia_entropy``, ``mia_modified_entropy``: the threshold of best balanced accuracy on the entropy of the softmax
  output p, and on its modification that knows the label y, -(1 - p_y) log p_y - sum_{k != y} p_k log(1 - p_k) (Song &
  Mittal 2021, arXiv:2003.10595). Low values are members. The paper fits a threshold for each class; here one serves
  all, since half the test images of one class are too few to fit one.
- ``mia_loss``: the same on the cross-entropy loss. ``mia_yeom``: the threshold is the mean loss of members (Yeom et al.
  2018, arXiv:1709.01604), which needs no non-members.
- ``mia_logistic``: accuracy of a logistic regression on the loss that tells forget from test images, as many of each,
  by cross-validation over ten folds (leave-one-out where there are fewer images); 0.5 if forgotten images are like
  unseen ones. The attack of the NeurIPS 2023 unlearning challenge, with losses up to 100 as in SCRUB (Kurmanji et al.
  2023, arXiv:2302.09880). It also tells a model apart that errs more on forgotten than on unseen images. Where a class
  is forgotten whole, test images are those of other classes, so the classes differ too: compare with retrain's value.

Folds and halves alternate in order of id, so no random numbers are used.
"""

import numpy as np
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score

from unlearn.api.metrics import Evidence, Metric, Row, Rows, no_value

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
    # From the odds against the largest output: log(1 - p) from p is log 0 for a confident model.
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
    """The threshold of best balanced accuracy, where members reach it; the least of equally good ones.

    >>> best_threshold(np.array([0.4, 0.8, 0.9]), np.array([0.1, 0.5]))
    0.8
    """
    candidates = np.unique(np.concatenate([members, others]))
    below = [np.searchsorted(np.sort(side), candidates) for side in (members, others)]
    # In whole numbers, since rounding of shares would decide between equally good thresholds.
    return float(candidates[np.argmax(below[1] * len(members) - below[0] * len(others))])


def told_apart(forget: np.ndarray, test: np.ndarray) -> tuple[float, int]:
    """Cross-validated accuracy of the logistic attack on two sets of losses of two or more, and the number of images
    judged."""
    count = min(len(forget), len(test))
    sides = [x[np.linspace(0, len(x) - 1, count).round().astype(int)].clip(max=LARGEST_LOSS) for x in (forget, test)]
    folds = PredefinedSplit(np.tile(np.arange(count) % min(FOLDS, count), 2))
    accuracies = cross_val_score(
        LogisticRegression(), np.concatenate(sides)[:, None], np.repeat([1, 0], count), cv=folds
    )
    return float(accuracies.mean()), 2 * count


def few_images(role: str, count: int) -> str | None:
    """Why an attack can be neither fitted nor judged on ``count`` images of a role; None if it can.

    >>> few_images("test", 1)
    "role 'test' has one image; fitting and judging an attack needs two"
    """
    return f"role {role!r} has one image; fitting and judging an attack needs two" if count < 2 else None


def compute(run: Evidence) -> Rows:
    """n counts the forget images, for ``*_attack`` the images on which the attack is judged."""
    outputs = {role: run.of_role(role) for role in ("retain", "test", "forget")}
    losses = {role: loss(*output) for role, output in outputs.items()}
    scores = {
        "correctness": {role: (x.argmax(1) == y).astype(float) for role, (y, x) in outputs.items()},
        "entropy": {role: -entropy(x) for role, (_, x) in outputs.items()},
        "modified_entropy": {role: -modified_entropy(y, x) for role, (y, x) in outputs.items()},
        "loss": {role: -values for role, values in losses.items()},
    }
    few = {role: few_images(role, len(labels)) for role, (labels, _) in outputs.items()}
    unfit = few["retain"] or few["test"]
    for name, score in {**scores, "yeom": scores["loss"]}.items():
        members, others, n = score["retain"], score["test"], len(score["forget"])
        if name == "correctness":
            threshold = 1.0
        elif unfit:
            yield no_value(f"mia_{name}", unfit, n)
            yield no_value(f"mia_{name}_attack", unfit)
            continue
        elif name == "yeom":
            threshold = members[::2].mean()
        else:
            threshold = best_threshold(members[::2], others[::2])
        yield Row(f"mia_{name}", float((score["forget"] < threshold).mean()), n)
        if unfit:
            yield no_value(f"mia_{name}_attack", unfit)
        else:
            right = (members[1::2] >= threshold).mean() + (others[1::2] < threshold).mean()
            yield Row(f"mia_{name}_attack", float(right / 2), len(members[1::2]) + len(others[1::2]))
    if unfit := few["forget"] or few["test"]:
        yield no_value("mia_logistic", unfit)
    else:
        yield Row("mia_logistic", *told_apart(losses["forget"], losses["test"]))
