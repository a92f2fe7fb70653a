"""Control: nothing is forgotten. The pretrained model as it is."""

from unlearn.api.methods import Classifier, MethodContext, Section

DATA_ROLES = ()


class Settings(Section):
    pass


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Leave the model untouched."""
