"""AutoAttack, standard version. Croce & Hein 2020, arXiv:2003.01690.

APGD on the cross-entropy, targeted APGD, targeted FAB and Square, each on the survivors of those before.
For validation: many times the cost of ``cascade``. torchattacks' own AutoAttack runs its parts for 10
steps instead of 100, lets Square follow a rescaled schedule, and is seeded by the clock.
"""

import torchattacks

from unlearn.api.attacks import Attack, Natural, Target, dataclass
from unlearn.attacks.cascade import fab
from unlearn.attacks.square import square

THREAT_NORM = "linf"
CATEGORY = "ensemble"


@dataclass(frozen=True)
class Settings:
    steps: Natural = 100
    targets: Natural = 9
    queries: Natural = 5000


def build(model: Target, eps: float, settings: Settings) -> dict[str, Attack]:
    common = {"norm": "Linf", "eps": eps, "n_restarts": 1, "seed": 0, "verbose": False}
    gradient = {**common, "steps": settings.steps, "eot_iter": 1, "rho": 0.75}
    classes = min(settings.targets + 1, model.classes)
    members: dict[str, Attack] = {"apgd_ce": torchattacks.APGD(model, loss="ce", **gradient)}
    if model.classes >= 4:
        members["apgd_t"] = torchattacks.APGDT(model, n_classes=classes, **gradient)
    elif model.classes == 3:
        members["apgd_dlr"] = torchattacks.APGD(model, loss="dlr", **gradient)
    members["fab_t"] = fab(model, settings.steps, common, multi_targeted=True, n_classes=classes)
    members["square"] = square(model, eps, settings.queries)
    return members
