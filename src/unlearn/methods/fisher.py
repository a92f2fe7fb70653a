"""Fisher forgetting: noise where the retain set does not need precision.

Golatkar et al. 2020, "Eternal Sunshine of the Spotless Net" (arXiv:1911.04933, and their code).
F is the diagonal of the Fisher information over the retain set: the mean over images of the exact
expectation, over labels y drawn from the model itself, of the squared gradient of one image's
-log p(y). A weight gets normal noise of variance alpha · min(1 / (F + 1e-8), 1000), at most
100 alpha in the last layer; the variance of a tensor of two or more dimensions is averaged over the
second (a filter's input channels); it is ten times larger for the last layer and for vectors (batch
norm and biases). The last layer's row of a class that is forgotten entirely, one that does not occur
among the retain labels, is replaced by noise of variance 1e-3 around 0, whatever alpha. Batch norm
statistics stay.

alpha 1e-6 is Golatkar's value for a small network; 1e-7 is used for larger ones. SalUn's port
squares the gradient of a batch's mean, which understates F by about the batch size and makes its
alpha (1e-9) mean something else, and it wipes the row of class 9 in random forgetting.

The gradients of single images are computed by vectorising over ``batch_size`` images, which bounds
the memory and does not change the result. One pass costs a backward per image and class: ``samples``
takes the mean over a random part of the retain set.
"""

import torch
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from unlearn.api.methods import (
    Budget,
    Classifier,
    Diverged,
    MethodContext,
    Natural,
    NonNegative,
    Section,
    head,
    scopes,
    to_float,
)

DATA_ROLES = ("retain",)
TUNING_GRID = {"alpha": (1e-8, 3e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5)}


class Settings(Section):
    alpha: NonNegative = 1e-6
    samples: Budget = None
    batch_size: Natural = 8


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Replace each weight of the scope by a draw from its forgetting distribution."""
    scopes.freeze(model, context.scope)
    model.eval()
    information = fisher_diagonal(model, context, settings)
    last = {id(p) for p in head(model).parameters()}
    gone = absent_classes(context)
    generator = context.generator("fisher noise")
    with context.step("noise"), torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in information:
                spread = variance(information[name], settings.alpha, id(parameter) in last)
                if id(parameter) in last:
                    parameter[gone], spread[gone] = 0, 1e-3
                noise = torch.randn(parameter.shape, generator=generator).to(context.device)
                parameter.add_(spread.sqrt() * noise)


def variance(information: torch.Tensor, alpha: float, last: bool) -> torch.Tensor:
    """Variance of the noise for one parameter, of the shape of its Fisher ``information``."""
    spread = alpha * (1 / (information + 1e-8)).clamp(max=1e2 if last else 1e3)
    if spread.ndim > 1:
        spread = spread.mean(1, keepdim=True).expand_as(spread).clone()
    return spread * 10 if last or spread.ndim == 1 else spread


def absent_classes(context: MethodContext) -> list[int]:
    """The classes that do not occur among the retain labels."""
    counts = context.images("retain").labels.bincount(minlength=context.spec.classes)
    return (counts == 0).nonzero().flatten().tolist()


def fisher_diagonal(model: Classifier, context: MethodContext, settings: Settings) -> dict[str, torch.Tensor]:
    """F by name of the trainable parameters. Raises Diverged where it is not finite."""
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    images = context.images("retain")
    chosen = torch.randperm(len(images), generator=context.generator("fisher sample"))[: settings.samples].sort().values
    total = {name: torch.zeros_like(p) for name, p in weights.items()}

    def of_one(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return expected_square(model, weights, x)

    # The fused attention kernels have no rule for vectorisation.
    with sdpa_kernel(SDPBackend.MATH):
        for index in chosen.to(context.device).split(settings.batch_size):
            with context.step("information", len(index)):
                for name, value in vmap(of_one)(to_float(images.pixels[index])).items():
                    total[name] += value.sum(0) / len(chosen)
    if bad := [name for name, value in total.items() if not value.isfinite().all()]:
        raise Diverged(f"the Fisher information of {bad[0]} is not finite")
    return total


def expected_square(model: Classifier, weights: dict[str, torch.Tensor], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Sum over y of p(y | x) times the squared gradient of log p(y | x), for one image ``x`` [C, H, W]."""

    def log_probabilities(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional_call(model, weights, (x[None],))[0].log_softmax(0)

    log_p, pull = vjp(log_probabilities, weights)
    total = {name: torch.zeros_like(p) for name, p in weights.items()}
    for label in torch.eye(len(log_p), device=x.device):
        probability = (log_p.exp() * label).sum()
        for name, gradient in pull(label)[0].items():
            total[name] = total[name] + probability * gradient.square()
    return total
