"""RL, random labelling: learn wrong labels for the forget set and right ones for the retain set.

Golatkar et al. 2020, "Eternal Sunshine of the Spotless Net" (arXiv:1911.04933); the objective and
its two passes are those of SalUn's code for CIFAR-10: each epoch first all forget batches, then
all retain batches. A random label never is the true one, as in SalUn's paper (its code draws from
all classes and so teaches one label in ten correctly); ``exclude_true: false`` follows the code.
"""

from collections.abc import Iterator

import torch

from unlearn.hyper import Training, dataclass
from unlearn.job import Batch, Job
from unlearn.models import Classifier
from unlearn.training import fit

SEES = ("retain", "forget")
GRID = {"sgd": {"lr": (0.001, 0.003, 0.01, 0.03, 0.1)}, "adaptive": {"lr": (0.00001, 0.00003, 0.0001, 0.0003, 0.001)}}


@dataclass(frozen=True)
class Settings(Training):
    """Labels are drawn anew for each batch of each epoch."""

    exclude_true: bool = True


def unlearn(model: Classifier, job: Job, settings: Settings) -> None:
    """Minimise the cross-entropy to random labels on D_f, then to the true ones on D_r."""
    fit(model, settings, job, lambda epoch: relabelled(job, settings, epoch))


def relabelled(job: Job, settings: Settings, epoch: int) -> Iterator[Batch]:
    """The batches of an epoch: forget with random labels, then retain."""
    generator = job.generator("random labels", epoch)
    for batch in job.batches("forget", epoch, settings.batch_size):
        yield batch._replace(y=random_labels(batch.y, job.spec.classes, settings.exclude_true, generator))
    yield from job.batches("retain", epoch, settings.batch_size)


def random_labels(y: torch.Tensor, classes: int, exclude_true: bool, generator: torch.Generator) -> torch.Tensor:
    """Uniform labels int64 [B], over all classes or over those that differ from ``y``."""
    if not exclude_true:
        return torch.randint(classes, y.shape, generator=generator).to(y.device)
    offset = torch.randint(1, classes, y.shape, generator=generator).to(y.device)
    return (y + offset) % classes
