"""shadow: a shadow model of U-LiRA unlearns, and its confidence in every training image is kept.

Hayes et al. 2024, "Inexact Unlearning Needs More Careful Evaluations" (arXiv:2403.01218). The score
is the logit-scaled confidence of Carlini et al. 2022 (arXiv:2112.03570), whose distribution over
models is close to a Gaussian. The model itself is not kept.
"""

from dataclasses import asdict, replace

import numpy as np
from scipy.special import logsumexp

from unlearn.io import tables
from unlearn.io.columns import SHADOWED_KEY
from unlearn.io.progress import NOTHING, Progress
from unlearn.io.schema.shadow import SHADOW
from unlearn.models import images
from unlearn.models.device import prepare
from unlearn.run import Run
from unlearn.stages import predict
from unlearn.stages.unlearn import chosen, unlearned
from unlearn.training.artifacts import TrainingSettings

STATUS = {"retain": "retained", "forget": "forgotten", "unseen": "unseen"}  # by role in the shadow's split


def shadow(
    run: Run,
    number: int,
    dataset: str,
    split: str,
    out: str,
    settings: TrainingSettings,
    device: str,
    original: str | None = None,
    tuning: str | None = None,
    progress: Progress = NOTHING,
) -> None:
    """``run``: identity of shadow ``number``'s run of a method; ``split``: that of ``shadow_split``;
    ``original`` and ``tuning`` as in unlearning."""
    if tuning:
        settings = replace(settings, method=settings.method | chosen(tuning))
    device = prepare(device)
    net, _ = unlearned(run, dataset, split, original, settings, device, progress)
    identity = {**{key: getattr(run, key) for key in SHADOWED_KEY}, "shadow": number}
    with tables.Writer(SHADOW, out, {"settings": asdict(settings), "run": vars(run), "device": str(device)}) as writer:
        for role, found in images.by_role(dataset, split, tuple(STATUS)).items():
            constant = {
                key: np.repeat(value, len(found)) for key, value in {**identity, "status": STATUS[role]}.items()
            }
            score = logit_confidence(found.labels.numpy(), predict.logits(net, found, device))
            writer.write({**constant, "id": found.ids.numpy(), "score": score})


def logit_confidence(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) of the true label's softmax probability p, float64 [N], from ``logits`` [N, C].

    Computed as the label's logit minus the logsumexp of the others: p itself rounds to 1 from a margin
    of 17 in float32, 37 in float64.

    >>> logit_confidence(np.array([0, 1]), np.array([[1000.0, 0.0], [np.log(3), 0.0]])).round(3)
    array([1000.   ,   -1.099])
    """
    others = logits.astype(np.float64)
    rows = np.arange(len(labels))
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    return own - logsumexp(others, axis=1)
