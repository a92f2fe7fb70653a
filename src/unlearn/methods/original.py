"""Control: nothing is forgotten. The pretrained model as it is."""

from unlearn.hyper import dataclass
from unlearn.job import Job
from unlearn.models import Classifier

SEES = ()


@dataclass(frozen=True)
class Settings:
    pass


def unlearn(model: Classifier, job: Job, settings: Settings) -> None:
    """Leave the model untouched."""
