"""Membership attack by neighbouring classes, for classes that are forgotten whole.

Ebrahimpour-Boroojeny et al. (arXiv:2506.20893, MIA-NN; arXiv:2512.06993) find that unlearned models betray a forgotten
class by what they say instead: the probabilities of the classes next to it are not those of a model that never saw it.
We know the attack from summaries, so its recipe here is ours. An attacker has training and test images of the forgotten
classes and wants to tell which of them the model was trained on. He sees the model's probabilities among the retained
classes alone, of the ``NEIGHBOURS`` that have most of them on average. A logistic regression on their logarithms
(standardised, both sides weighing the same) is fitted on one half of the images and ranks the other, then the other way
round; the metric is the mean AUC of both halves.

Exact retraining has seen neither side, so its AUC is 0.5 but for chance. Other membership attacks compare with test
images of retained classes, which differ from the forgotten ones whether the model was trained on them or not.
"""

import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unlearn.api.metrics import Evidence, Metric, Row, Rows, no_value

METRICS = {"neighbour_mia": Metric("membership AUC by neighbouring classes", "match_retrain", 0, 1)}

NEIGHBOURS = 3
FEWEST = 4  # images on each side, two for each half


def compute(run: Evidence) -> Rows:
    """n counts forgotten training and test images of the classes that are forgotten whole."""
    gone = sorted(run.forgotten_classes)
    images = run.predictions[run.predictions["label"].isin(gone) & (run.predictions["role"] != "retain")]
    images = images.sort_values("id")
    member = (images["role"] == "forget").to_numpy()
    n = len(images)
    if not gone:
        yield no_value("neighbour_mia", "no class is forgotten whole", n)
        return
    if min(member.sum(), (~member).sum()) < FEWEST:
        sides = f"{member.sum()} training and {(~member).sum()} test images of forgotten classes"
        yield no_value("neighbour_mia", f"{sides}; the attack needs {FEWEST} of each", n)
        return
    rows = run.predictions.index.get_indexer(images.index)
    left = [c for c in range(run.logits.shape[1]) if c not in gone]
    yield Row("neighbour_mia", told_apart(run.logits[rows][:, left], member), n)


def told_apart(logits: np.ndarray, member: np.ndarray) -> float:
    """Mean AUC of the attack over both halves. ``logits`` [N, C] of the retained classes; ``member`` [N]."""
    logs = log_softmax(logits.astype(np.float64), axis=1)
    nearest = np.argsort(-np.exp(logs).mean(0), kind="stable")[:NEIGHBOURS]
    x = logs[:, nearest]
    half = np.empty(len(member), int)
    for side in (True, False):
        half[member == side] = np.arange((member == side).sum()) % 2
    found = []
    for i in (0, 1):
        attack = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        attack.fit(x[half == i], member[half == i])
        found.append(roc_auc_score(member[half != i], attack.decision_function(x[half != i])))
    return float(np.mean(found))
