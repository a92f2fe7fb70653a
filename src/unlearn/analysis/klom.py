"""KLoM: how far the margins of unlearned models are from those of retrained models, image by image.

"KL divergence of margins" (Georgiev et al. 2024, arXiv:2410.23232; benchmarked in arXiv:2602.16400). An image's margin
is its label's logit minus the logsumexp of the others, which is the score of a shadow model, clipped to ±100. For each
image the margins of the models that forgot it by the method, and of those that were retrained without it, are counted
in 20 bins of equal width over the range of both; the image's value is KL(retrained ‖ unlearned) in nats, where an empty
bin counts as 1e-5. 0 is a method whose models are the retrained ones.

Few models make the value large, even for exact retraining, since bins that one side leaves empty weigh ln(1e5) = 11.5
(docs/statistics.md has numbers). So ``klom_floor`` is the same between retrained models that forgot the image and as
many that never had it in their data, which differ by chance alone: what of ``klom`` is above it is the method's.
"""

import numpy as np
import pandas as pd
from scipy.special import rel_entr

BINS = 20
CLIP = 100.0
EMPTY = 1e-5
FEWEST = 2  # models on each side


def divergence(exact: np.ndarray, other: np.ndarray) -> float:
    """KL(exact ‖ other) in nats of the histograms of two sets of margins, [K] and [L].

    >>> divergence(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    0.0
    """
    exact, other = np.clip(exact, -CLIP, CLIP), np.clip(other, -CLIP, CLIP)
    both = np.concatenate([exact, other])
    edges = np.linspace(both.min(), both.max(), BINS + 1)
    if edges[0] == edges[-1]:
        return 0.0
    p, q = (np.histogram(margins, edges)[0] / len(margins) for margins in (exact, other))
    return max(float(rel_entr(p, np.maximum(q, EMPTY)).sum()), 0.0)


def klom(shadows: pd.DataFrame, exact: pd.DataFrame) -> pd.DataFrame:
    """Columns statistic, value, n and left_out from the shadow tables of a method and scope, and of exact retraining.

    Values are means over images; n counts the images with two models or more on each side, left_out the others.
    """
    ids = sorted(set(exact["id"]))
    unlearned, retrained = (_scores(frame, "forgotten") for frame in (shadows, exact))
    unseen, rows = _scores(exact, "unseen"), []
    for statistic, others in (("klom", unlearned), ("klom_floor", unseen)):
        values = []
        for image in ids:
            pair = retrained.get(image, ()), others.get(image, ())
            if min(map(len, pair)) >= FEWEST:
                values.append(divergence(pair[0], pair[1][: len(pair[0])] if others is unseen else pair[1]))
        rows.append((statistic, float(np.mean(values)) if values else np.nan, len(values), len(ids) - len(values)))
    return pd.DataFrame(rows, columns=["statistic", "value", "n", "left_out"])


def _scores(shadows: pd.DataFrame, status: str) -> dict[int, np.ndarray]:
    """Image → its scores in the shadow models in which it has a status, in order of the models."""
    chosen = shadows[shadows["status"] == status].sort_values("shadow")
    return {image: group.to_numpy() for image, group in chosen.groupby("id")["score"]}
