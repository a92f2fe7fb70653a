"""For files in ``data/``: settings, what a source gives, decoding and drawing of images. No torch."""

import io
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from unlearn.config import settings
from unlearn.config.settings import *  # noqa: F403
from unlearn.config.settings import Pictures
from unlearn.sampling import stratified

__all__ = [
    "DataError",
    "Encoded",
    "Images",
    "ShapeError",
    "Source",
    "decode",
    "divided",
    "encoded",
    "listed",
    "stratified",
    "text",
]
__all__ += ["texts"]
__all__ += settings.__all__

CHUNK = 1024  # images that are decoded at once
log = logging.getLogger("unlearn")
SHOWN = 20  # files that an error names; it has the number of the others


class DataError(ValueError):
    """Data that cannot be used; the message names the file."""


class ShapeError(DataError):
    """Images of different shapes (C, H, W), two of which are ``shapes``."""

    def __init__(self, message: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]):
        super().__init__(message)
        self.shapes = shapes


class Images(NamedTuple):
    """A chunk of one split: ``pixels`` uint8 [N, C, H, W], ``labels`` integer [N]. ``origins`` says where each image
    comes from (a path from the source's root on, or "shard.parquet:row"); without them it is its number in the split.
    ``attributes``: name → a text or None for each image; all chunks have the same names."""

    split: str
    pixels: np.ndarray
    labels: np.ndarray
    origins: Sequence[str] | None = None
    attributes: Mapping[str, Sequence[str | None]] = {}


class Source(NamedTuple):
    """Class names, and chunks of images: all of "train", then all of "test".

    ``left_out``: reason → number of files, or of frames, that are no images of the source; complete once the chunks are
    read.
    ``empty_classes``: "allow" if a class may be without training or test images.
    """

    classes: list[str]
    chunks: Iterable[Images]
    left_out: Mapping[str, int] = {}
    empty_classes: str = "refuse"


class Encoded(NamedTuple):
    """An image before it is decoded: the bytes or the path of its file, None if there is none; ``where`` names it in
    errors."""

    data: bytes | Path | None
    label: int
    origin: str
    where: str
    attributes: Mapping[str, str | None] = {}


def encoded(
    classes: list[str], parts: Mapping[str, Iterable[Encoded]], settings: Pictures, left_out: Counter[str] | None = None
) -> Source:
    """A source of the encoded images of each split.

    Its chunks raise ShapeError for images of different shapes; and DataError at the end, with a list of them, for those
    that cannot be decoded, unless the settings leave them out.
    """
    left_out = Counter() if left_out is None else left_out
    return Source(classes, _decoded(parts, settings, left_out), left_out, settings.empty_classes)


def _decoded(parts: Mapping[str, Iterable[Encoded]], settings: Pictures, left_out: Counter[str]) -> Iterator[Images]:
    reason, bad = "", list[str]()
    first: tuple[tuple[int, ...], str] | None = None
    for split, images in parts.items():
        rest = iter(images)
        while batch := list(islice(rest, CHUNK)):
            kept, arrays = [], []
            for image in batch:
                try:
                    array = decode(image.data, settings.mode, settings.size, image.where, settings.background, left_out)
                except DataError as error:
                    log.warning("%s", error)
                    reason = reason or str(error)
                    bad.append(image.where)
                    continue
                first = first or (array.shape, image.where)
                if array.shape != first[0]:
                    shapes = f"{array.shape}, but {first[1]} {first[0]}"
                    message = f"{image.where}: images have different shapes, this one {shapes}; set `size`"
                    raise ShapeError(message, (array.shape, first[0]))
                kept.append(image)
                arrays.append(array)
            if kept:
                attributes = {name: [image.attributes[name] for image in kept] for name in kept[0].attributes}
                labels = np.array([image.label for image in kept])
                yield Images(split, np.stack(arrays), labels, [image.origin for image in kept], attributes)
    if bad and settings.unreadable == "refuse":
        more = f"; {len(bad) - 1} more: {listed(bad[1:])}" if len(bad) > 1 else ""
        raise DataError(f"{reason}{more}; `unreadable: leave out` goes on without what cannot be read")
    left_out["unreadable"] += len(bad)


def decode(
    data: object,
    mode: str,
    size: int | None,
    where: str,
    background: str = "white",
    left_out: Counter[str] | None = None,
) -> np.ndarray:
    """An encoded image (bytes or a path) as uint8 [C, H, W]; of several frames the first, the others are counted in
    ``left_out``.

    ``mode`` is Pillow's ("RGB", "L"); ``size`` resizes the shorter side and crops the centre to a square. The image is
    turned as its EXIF orientation says, as viewers do; transparent pixels show the ``background``, not the colour that
    lies hidden in them. Raises DataError naming ``where``, also for more than eight bits a channel: Pillow clips them,
    so that a 16-bit image comes out white.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if data is None:
        raise DataError(f"{where}: holds no image")
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            if left_out is not None:
                left_out["further frames"] += getattr(image, "n_frames", 1) - 1
            if image.mode[0] in "IF":
                raise ValueError(f"mode {image.mode} has more than 8 bits a channel")
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
            image = image.convert(mode)
            if size:
                image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
            array = np.asarray(image)
    except MemoryError:
        raise
    except UnidentifiedImageError:  # whose message names an object in memory
        raise DataError(f"{where}: not a readable image (of no format that Pillow knows)") from None
    except Exception as error:  # a damaged file makes Pillow raise SyntaxError, struct.error, zlib.error, …
        raise DataError(f"{where}: not a readable image ({error})") from None
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def divided(labels: np.ndarray, fraction: float, seed: int) -> dict[str, np.ndarray]:
    """Ascending indices of "train" and "test" for labels [N]: a stratified ``fraction`` is for the test."""
    test = stratified(labels, round(fraction * len(labels)), seed)
    return {"train": np.setdiff1d(np.arange(len(labels)), test), "test": test}


def listed(items: Sequence[str]) -> str:
    """The items as one text: the first SHOWN, and the number of the others."""
    more = [f"… and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return ", ".join([*items[:SHOWN], *more])


def text(path: str | Path) -> str:
    """A path as text, also one whose bytes are none (an archive of another system may leave such names)."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def texts(column: pa.Array | pa.ChunkedArray, where: str) -> list[str | None]:
    """A column of an Arrow table as texts. Raises DataError naming ``where`` for what has no text, such as bytes."""
    try:
        return column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"{where}: {column.type} cannot be kept as a text") from None
