"""PGD towards the true label: can a small perturbation make the model recognise what it forgot?

Only forgotten images that it gets wrong are attacked. Residual knowledge of Hsu et al. 2025 (arXiv:2601.22359),
who find forgotten images recognised again within a small ball. Retrained models recognise them too at some
radius, so only the difference to exact retraining means anything. The iteration is that of PGD (Madry et al.
2018, arXiv:1706.06083).
"""

import torchattacks

from unlearn.api.attacks import Attack, Natural, Positive, Target, dataclass

THREAT_NORM = "linf"
CATEGORY = "iterative"
AIM = "recover"


@dataclass(frozen=True)
class Settings:
    steps: Natural = 20
    relative_step: Positive = 2.5


def build(model: Target, eps: float, settings: Settings) -> dict[str, Attack]:
    alpha = settings.relative_step * eps / settings.steps
    attack = torchattacks.PGD(model, eps=eps, alpha=alpha, steps=settings.steps, random_start=True)
    attack.set_mode_targeted_by_label(quiet=True)
    return {"recover": attack}
