"""A cascade of attacks with different losses, each on the images that survive those before.

FGSM, APGD on the cross-entropy, APGD on the difference-of-logits ratio and targeted APGD, of Croce & Hein 2020
(arXiv:2003.01690). Attacks on the cross-entropy alone find nothing on a model whose logits are large, such as
one unlearned by ascent: 97 % robust where the truth is 52 %. The ratio needs three classes and its targeted form
four; where there are fewer, FAB (Croce & Hein 2020, arXiv:1907.02044) takes its place. How close it comes to full
AutoAttack, and at what cost, is measured in docs/benchmarks.md.
"""

import torchattacks

from unlearn.api.attacks import Attack, Natural, Target, dataclass

THREAT_NORM = "linf"
CATEGORY = "ensemble"


@dataclass(frozen=True)
class Settings:
    steps: Natural = 20
    target_steps: Natural = 10
    targets: Natural = 9


def build(model: Target, eps: float, settings: Settings) -> dict[str, Attack]:
    common = {"norm": "Linf", "eps": eps, "n_restarts": 1, "seed": 0, "verbose": False}
    gradient = {**common, "steps": settings.steps, "eot_iter": 1, "rho": 0.75}
    members: dict[str, Attack] = {
        "fgsm": torchattacks.FGSM(model, eps=eps),
        "apgd_ce": torchattacks.APGD(model, loss="ce", **gradient),
    }
    if model.classes >= 3:
        members["apgd_dlr"] = torchattacks.APGD(model, loss="dlr", **gradient)
    if model.classes >= 4:
        targeted = {**gradient, "steps": settings.target_steps, "n_classes": min(settings.targets + 1, model.classes)}
        members["apgd_t"] = torchattacks.APGDT(model, **targeted)
    else:
        members["fab"] = fab(model, settings.steps, common)
    return members


def fab(model: Target, steps: int, common: dict, **more: object) -> Attack:
    """FAB with its paper's constants."""
    return torchattacks.FAB(model, steps=steps, alpha_max=0.1, eta=1.05, beta=0.9, **{**common, **more})
