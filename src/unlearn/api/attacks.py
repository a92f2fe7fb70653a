"""For files in ``attacks/``: settings, the type of an attack's members, and the model that they attack."""

from unlearn.config import settings
from unlearn.config.settings import *  # noqa: F403
from unlearn.evaluation.attack_search import Attack, Target

__all__ = ["Attack", "Target"]
__all__ += settings.__all__
