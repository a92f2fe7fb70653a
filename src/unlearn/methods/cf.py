"""CF, catastrophic forgetting: fine-tune on the retain set and let the rest fade.

Goel et al. 2022, "Towards Adversarial Evaluations for Inexact Machine Unlearning"
(arXiv:2201.06640, §4); on a smaller scope it is their CF-k. The defaults are SalUn's for "FT"
(Fan et al. 2024: 10 epochs, learning rate 0.01).
"""

from unlearn.api.methods import Classifier, MethodContext, Training, dataclass, fit

DATA_ROLES = ("retain",)
TUNING_GRID = {
    "sgd": {"lr": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)},
    "adaptive": {"lr": (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)},
}


@dataclass(frozen=True)
class Settings(Training):
    pass


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Minimise the mean cross-entropy over the retain set."""
    fit(model, settings, context, lambda epoch: context.batches("retain", epoch, settings.batch_size))
