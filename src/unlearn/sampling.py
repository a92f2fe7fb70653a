"""Random samples in the proportions of the classes."""

import numpy as np


def stratified(labels: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """Ascending indices of a random sample of ``count`` of the labels [N] in the proportions of the classes; of all if
    ``count`` is None or larger. Each class gives its share rounded down, those with the largest fractions one more."""
    if count is None or count >= len(labels):
        return np.arange(len(labels))
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * count / len(labels)
    take = np.floor(shares).astype(int)
    take[np.argsort(take - shares, kind="stable")[: count - take.sum()]] += 1
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(labels == c), k, replace=False) for c, k in zip(classes, take, strict=True)]
    return np.sort(np.concatenate(chosen))
