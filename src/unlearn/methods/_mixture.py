"""Batches in which a role's images, augmented, and images that a method made, as they are, mix."""

import math
from collections.abc import Iterator

import torch

from unlearn.images import ImageSet, to_float
from unlearn.job import Batch, Job, augment


def mixture(job: Job, images: ImageSet, made: ImageSet, epoch: int, size: int, role: str) -> Iterator[Batch]:
    """All of both sets once, shuffled together by the epoch's own stream.

    The pixels of ``made`` are uint8 like those of ``images``, or float32 in a batch's scale. Within
    a batch the images of the first set come first.
    """
    order = torch.randperm(len(images) + len(made), generator=job.generator(f"order {role}", epoch))
    generator = job.generator(f"augment {role}", epoch)
    for index in order.to(job.device).tensor_split(math.ceil(len(order) / size)):
        real, other = index[index < len(images)], index[index >= len(images)] - len(images)
        extra = made.pixels[other] if made.pixels.is_floating_point() else to_float(made.pixels[other])
        x = torch.cat([to_float(augment(images.pixels[real], generator, **job.augment)), extra])
        yield Batch(x, torch.cat([images.labels[real], made.labels[other]]), role)
