"""FGSM: one signed gradient step. Goodfellow et al. 2015, arXiv:1412.6572, §4."""

import torchattacks

from unlearn.api.attacks import Attack, Section, Target

THREAT_NORM = "linf"
CATEGORY = "single"


class Settings(Section):
    pass


def build(model: Target, eps: float, settings: Settings) -> dict[str, Attack]:
    return {"fgsm": torchattacks.FGSM(model, eps=eps)}
