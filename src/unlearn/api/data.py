"""For files in ``data/``: settings, what a source gives, and decoding of images. No torch."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from unlearn.config import settings
from unlearn.config.settings import *  # noqa: F403

__all__ = ["DataError", "Images", "Source", "decode", "stack"]
__all__ += settings.__all__


class DataError(ValueError):
    """Data that cannot be used; the message names the file."""


class Images(NamedTuple):
    """A chunk of one split: ``pixels`` uint8 [N, C, H, W], ``labels`` integer [N]."""

    split: str
    pixels: np.ndarray
    labels: np.ndarray


class Source(NamedTuple):
    """Class names, and chunks of images: all of "train", then all of "test"."""

    classes: list[str]
    chunks: Iterable[Images]


def decode(data: object, mode: str, size: int | None, where: str) -> np.ndarray:
    """An encoded image (bytes or a path) as uint8 [C, H, W].

    ``mode`` is Pillow's ("RGB", "L"); ``size`` resizes the shorter side and crops the centre to a
    square. Raises DataError naming ``where``, also for more than eight bits a channel: Pillow clips
    them, so that a 16-bit image comes out white.
    """
    import io

    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            if image.mode[0] in "IF":
                raise ValueError(f"mode {image.mode} has more than 8 bits a channel")
            image = image.convert(mode)
            if size:
                image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
            array = np.asarray(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: not a readable image ({error})") from None
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def stack(arrays: list[np.ndarray], where: str) -> np.ndarray:
    """[C, H, W] arrays as one [N, C, H, W]; raises DataError unless all have one shape."""
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise DataError(f"{where}: images have different shapes {sorted(shapes)}; set `size` to resize them")
    return np.stack(arrays)
