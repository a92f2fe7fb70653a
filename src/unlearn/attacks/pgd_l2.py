"""PGD within an L2 ball, random start. Madry et al. 2018, arXiv:1706.06083, §2.1.

The library adds ``eps_for_division`` to the norm of the gradient of a batch's *mean* loss. Its
default of 1e-10 is no small number for a confident model: the step then shrinks with the batch size.
"""

import torchattacks

from unlearn.api.attacks import Attack, Natural, Positive, Target, dataclass

THREAT_NORM = "l2"
CATEGORY = "iterative"


@dataclass(frozen=True)
class Settings:
    steps: Natural = 20
    relative_step: Positive = 2.5


def build(model: Target, eps: float, settings: Settings) -> dict[str, Attack]:
    alpha = settings.relative_step * eps / settings.steps
    attack = torchattacks.PGDL2(
        model, eps=eps, alpha=alpha, steps=settings.steps, random_start=True, eps_for_division=1e-30
    )
    return {"pgd_l2": attack}
