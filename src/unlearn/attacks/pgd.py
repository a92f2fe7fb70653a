"""PGD with a random start. Madry et al. 2018, arXiv:1706.06083, §2.1.

The step is ``relative_step`` · eps / steps. torchattacks' default step of 2/255 cannot cross a
ball of eps 0.1 in ten steps and then reports a third too many images as robust.
"""

import torchattacks

from unlearn.api.attacks import Attack, Natural, Positive, Target, dataclass

THREAT_NORM = "linf"
CATEGORY = "iterative"


@dataclass(frozen=True)
class Settings:
    steps: Natural = 20
    relative_step: Positive = 2.5


def build(model: Target, eps: float, settings: Settings) -> dict[str, Attack]:
    alpha = settings.relative_step * eps / settings.steps
    return {"pgd": torchattacks.PGD(model, eps=eps, alpha=alpha, steps=settings.steps, random_start=True)}
