"""The images of a study as tensors, by role. Pixels stay uint8 until they enter a batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearn import sampling
from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET
from unlearn.io.schema.split import SPLIT
from unlearn.models.classifier import Spec


@dataclass(frozen=True, eq=False)
class ImageSet:
    """``ids`` int64 [N], ascending within a role; ``pixels`` uint8 [N, C, H, W]; ``labels`` int64 [N]."""

    ids: Tensor
    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: "ImageSet") -> "ImageSet":
        """The images of both, one set after the other."""
        return ImageSet(*(torch.cat(pair) for pair in zip(self._columns(), other._columns(), strict=True)))

    def select(self, index: Tensor) -> "ImageSet":
        return ImageSet(self.ids[index], self.pixels[index], self.labels[index])

    def to(self, device: torch.device | str) -> "ImageSet":
        return ImageSet(*(tensor.to(device) for tensor in self._columns()))

    def _columns(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.ids, self.pixels, self.labels


def describe(dataset: str) -> tuple[list[str], tuple[int, int, int]]:
    """Class names and image shape (C, H, W) of a dataset table. Raises TableError for another table."""
    metadata = tables.metadata(dataset)
    if not metadata.keys() >= {"classes", "shape"}:
        raise tables.TableError(f"{dataset}: is not a dataset, but table {metadata.get('table')!r}")
    return metadata["classes"], tuple(metadata["shape"])


def model_spec(dataset: str, model: dict[str, Any]) -> Spec:
    """The spec of a config's architecture for a dataset's classes and image shape."""
    classes, shape = describe(dataset)
    return Spec(classes=len(classes), shape=shape, **model)


def training_set(dataset: str) -> ImageSet:
    """All images of the training split."""
    ids, splits, labels, pixels = _read(dataset)
    return _subset(ids, labels, pixels, splits == "train")


def test_set(dataset: str) -> ImageSet:
    """All images of the test split."""
    ids, splits, labels, pixels = _read(dataset)
    return _subset(ids, labels, pixels, splits == "test")


def by_role(dataset: str, split: str, roles: tuple[str, ...]) -> dict[str, ImageSet]:
    """The images of each role. Raises TableError for a split whose ids are not those of the dataset, and for a role
    without images."""
    ids, _, labels, pixels = _read(dataset)
    assigned = tables.read(SPLIT, split)
    order = np.argsort(assigned["id"].to_numpy())
    if not np.array_equal(assigned["id"].to_numpy()[order], ids):
        raise tables.TableError(f"{split}: its ids are not those of {dataset}")
    role = assigned["role"].to_numpy(zero_copy_only=False)[order]
    if missing := [name for name in roles if not (role == name).any()]:
        raise tables.TableError(f"{split}: has no images of role {missing[0]!r}")
    return {name: _subset(ids, labels, pixels, role == name) for name in roles}


def _read(dataset: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    table = tables.read(DATASET, dataset)
    shape = describe(dataset)[1]
    size = int(np.prod(shape))
    pixels = np.empty((len(table), size), np.uint8)
    start = 0
    for chunk in table["image"].chunks:
        offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        if len(chunk) and not (np.diff(offsets) == size).all():
            raise tables.TableError(f"{dataset}: an image has not the {size} bytes of shape {shape}")
        raw = np.frombuffer(chunk.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
        pixels[start : start + len(chunk)] = raw.reshape(-1, size)
        start += len(chunk)
    ids = table["id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    columns = ids, table["split"].to_numpy(zero_copy_only=False), table["label"].to_numpy(), pixels.reshape(-1, *shape)
    return tuple(column if np.array_equal(ids[order], ids) else column[order] for column in columns)


def _subset(ids: np.ndarray, labels: np.ndarray, pixels: np.ndarray, chosen: np.ndarray) -> ImageSet:
    return ImageSet(*(torch.from_numpy(np.ascontiguousarray(column[chosen])) for column in (ids, pixels, labels)))


def to_float(pixels: Tensor) -> Tensor:
    """uint8 → float32 in [0, 1]."""
    return pixels.float().div_(255)


def stratified(images: ImageSet, count: int | None, seed: int) -> ImageSet:
    """A random sample of ``count`` images in the proportions of the classes (``unlearn.sampling``)."""
    if count is None or count >= len(images):
        return images
    return images.select(torch.from_numpy(sampling.stratified(images.labels.numpy(), count, seed)))
