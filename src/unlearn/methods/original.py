"""Control: nothing is forgotten. The pretrained model as it is."""

from unlearn.api.methods import Classifier, MethodContext, dataclass

DATA_ROLES = ()


@dataclass(frozen=True)
class Settings:
    pass


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Leave the model untouched."""
