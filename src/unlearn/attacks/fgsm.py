"""FGSM: one signed gradient step. Goodfellow et al. 2015, arXiv:1412.6572, §4."""

import torchattacks

from unlearn.api.attacks import Attack, Target, dataclass

THREAT_NORM = "linf"
CATEGORY = "single"


@dataclass(frozen=True)
class Settings:
    pass


def build(model: Target, eps: float, settings: Settings) -> dict[str, Attack]:
    return {"fgsm": torchattacks.FGSM(model, eps=eps)}
