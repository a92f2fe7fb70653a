"""Control: exact unlearning. Train again without the forgotten images, by the original recipe.

On scope "all" the pretrained model is discarded. On a smaller scope only that scope starts afresh
and the rest is kept frozen: EU-k of Goel et al. 2022, "Towards Adversarial Evaluations for Inexact
Machine Unlearning" (arXiv:2201.06640, §4), for any k; batch norms in the scope start afresh too.
The initialisation and data order come from the same streams as in pretraining, so retraining
without anything to forget is pretraining.
"""

from unlearn.api.methods import Classifier, MethodContext, Training, dataclass, fit, scopes

DATA_ROLES = ("retain",)


@dataclass(frozen=True)
class Settings(Training):
    pass


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Reinitialise the scope and train it on the retain set."""
    scopes.reinitialise(model, context.fresh_model("init"), context.scope)
    fit(model, settings, context, lambda epoch: context.batches("retain", epoch, settings.batch_size))
