"""Square: random search without gradients. Andriushchenko et al. 2020, arXiv:1912.00049.

For validation: a model on which it does better than attacks that follow gradients hides its gradients.
The schedule is the paper's own, as in AutoAttack, not the one that torchattacks rescales to the queries.
"""

import torchattacks

from unlearn.api.attacks import Attack, Natural, Target, dataclass

THREAT_NORM = "linf"
CATEGORY = "black box"


@dataclass(frozen=True)
class Settings:
    queries: Natural = 500


def build(model: Target, eps: float, settings: Settings) -> dict[str, Attack]:
    return {"square": square(model, eps, settings.queries)}


def square(model: Target, eps: float, queries: int) -> Attack:
    return torchattacks.Square(
        model,
        norm="Linf",
        eps=eps,
        n_queries=queries,
        n_restarts=1,
        p_init=0.8,
        loss="margin",
        resc_schedule=False,
        seed=0,
        verbose=False,
    )
