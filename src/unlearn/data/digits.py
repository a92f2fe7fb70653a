"""scikit-learn's digits: 1,797 real 8x8 grey images of 10 classes, shipped with the library.

Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998 (its test part). The data
set has no official split here, so a stratified one is drawn with a fixed seed.
"""

import numpy as np

from unlearn.api.data import DataError, Fraction, Images, Seed, Source, dataclass


@dataclass(frozen=True)
class Settings:
    test_fraction: Fraction = 0.25
    seed: Seed = 0


def load(settings: Settings) -> Source:
    """The 17 grey levels 0…16 become the nearest of 0…255. Raises DataError for a part smaller than ten images."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    try:
        parts = train_test_split(
            np.arange(len(pixels)), test_size=settings.test_fraction, random_state=settings.seed, stratify=digits.target
        )
    except ValueError as error:
        raise DataError(f"test_fraction {settings.test_fraction} of {len(pixels)} digits: {error}") from None
    images = (
        Images(split, pixels[chosen], digits.target[chosen])
        for split, chosen in zip(("train", "test"), map(np.sort, parts), strict=True)
    )
    return Source([str(name) for name in digits.target_names], images)
