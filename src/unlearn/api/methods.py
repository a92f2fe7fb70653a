"""For files in ``methods/``: settings, what a method is given, models, layer scopes and the training loop."""

from unlearn.config import settings
from unlearn.config.settings import *  # noqa: F403
from unlearn.models import scopes
from unlearn.models.classifier import Classifier, ModelError, head
from unlearn.models.images import ImageSet, to_float
from unlearn.training.context import Batch, MethodContext, batch_count, mixture
from unlearn.training.loop import Diverged, cross_entropy, fit, learning_rate, make_optimizer

__all__ = [
    "Batch",
    "Classifier",
    "Diverged",
    "ImageSet",
    "MethodContext",
    "ModelError",
    "batch_count",
    "cross_entropy",
    "fit",
    "head",
    "learning_rate",
    "make_optimizer",
    "mixture",
    "scopes",
    "to_float",
]
__all__ += settings.__all__
