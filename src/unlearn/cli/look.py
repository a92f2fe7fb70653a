"""Images as a study would have them: the stage ``dataset``, run into a temporary folder."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from unlearn.api.data import ShapeError
from unlearn.cli.said import said, shown
from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET
from unlearn.stages.dataset import dataset

SIDES = (32, 64, 96, 128, 224)  # to which images of different shapes, or larger ones, are brought


def suited(source: Mapping[str, Any], out: str, grey: bool) -> tuple[dict[str, Any], list[str]]:
    """The source with a ``size`` and a ``mode`` that suit its images, and lines on what was found; ``out`` gets their
    table.

    ``grey``: whether images without colour may be read as grey. Raises DataError as the source and its stage do.
    """
    given, found = dict(source), list[str]()
    sized = given["name"] in ("imagefolder", "parquet", "table")
    try:
        log = _made(given, out)
    except ShapeError as error:
        if not sized:
            raise
        given["size"] = _side(min(shape[i] for shape in error.shapes for i in (1, 2)))
        one, other = ("×".join(map(str, shape[:0:-1])) for shape in error.shapes)
        found.append(f"images have different sizes ({other} and {one}, …): {_cut(given['size'])}")
        log = _made(given, out)
    shape = tables.metadata(out)["shape"]
    if sized and min(shape[1:]) > SIDES[-1]:
        given["size"] = SIDES[-1]
        found.append(f"images are large ({shape[2]}×{shape[1]}): {_cut(given['size'])}")
        log = _made(given, out)
    shape = tables.metadata(out)["shape"]
    if sized and grey and _colourless(out, shape):
        given["mode"] = "L"
        found.append("no image has colour: read as grey")
        log = _made(given, out)
    return given, [*found, *shown(log)]


def _made(source: Mapping[str, Any], out: str) -> list[str]:
    """What the stage logs."""
    with said() as log:
        dataset(out, dict(source))
    return log


def copies(table: str) -> list[str]:
    """What there is to say of images of a dataset table that are equal pixel by pixel."""
    images = tables.read(DATASET, table, columns=["split", "label", "digest"]).to_pandas()
    equal = images[images["digest"].duplicated(keep=False)]
    if equal.empty:
        return ["no two images are equal pixel by pixel"]
    tests = equal[equal["split"] == "test"]
    across = tests["digest"].isin(equal.loc[equal["split"] == "train", "digest"]).sum()
    several = (equal.groupby("digest")["label"].transform("nunique") > 1).sum()
    parts = f"{across} test images equal a training image, {several} have several classes"
    return [f"warning: {len(equal)} images equal another one pixel by pixel; {parts}"]


def _side(smallest: int) -> int:
    """The largest of the sides to which no image need be enlarged, or the smallest of them."""
    return max([side for side in SIDES if side <= smallest], default=SIDES[0])


def _cut(side: int) -> str:
    return f"resized and cut to {side}×{side}"


def _colourless(table: str, shape: tuple[int, int, int]) -> bool:
    """Whether the channels of each image are equal."""
    for batch in pq.ParquetFile(table).iter_batches(256, columns=["image"]):
        pixels = np.frombuffer(b"".join(batch.column(0).to_pylist()), np.uint8).reshape(-1, *shape)
        if (pixels != pixels[:, :1]).any():
            return False
    return True
