"""Control: nothing is forgotten. The pretrained model as it is."""

from unlearn.config.settings import dataclass
from unlearn.models.classifier import Classifier
from unlearn.training.context import MethodContext

DATA_ROLES = ()


@dataclass(frozen=True)
class Settings:
    pass


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Leave the model untouched."""
