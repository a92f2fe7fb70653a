"""Influence unlearning: one Newton step from the optimum with the forget set to the one without.

Koh and Liang 2017 (arXiv:1703.04730); as an unlearning method "IU" in Jia et al. 2023, "Model
Sparsity Can Simplify Machine Unlearning" (arXiv:2304.04934).

Let theta minimise sum_i w_i · l_i with Hessian H. A change of the weights by dw shifts the optimum, to first
order, by -H⁻¹ sum_i dw_i · grad l_i. Training had w = 1 / N throughout; retraining has 1 / N_r on the
retain set and 0 on the forget set, so dw is 1 / N_r - 1 / N = N_f / (N · N_r) and -1 / N, and

    theta ← theta + alpha · k,    k = H⁻¹ v,    v = (N_f / N) · (mean grad_f - mean grad_r).

The step climbs the forget loss, and alpha 1 is the whole of it. For H stands F + ``damping`` · 1, where
F is the Gauss-Newton matrix of the cross-entropy, which is its Fisher information: the mean over
retain images of Jᵀ (diag p - p pᵀ) J, with J the Jacobian of the logits. The system is solved by
conjugate gradients, which need F only as products with vectors. One shot, in evaluation mode, on
images that are not augmented, in float32; batch norm statistics stay.

The released code runs a recursion for the inverse over some 1,000 single images, whose second vector
is only ever rescaled: it returns v - c · g with g the first image's gradient, no product with an
inverse. So its alpha (1 to 20) does not carry over. It takes the gradients on augmented images.
``samples`` images of the retain set estimate F, as many as that recursion visits; ``damping``,
``iterations`` and ``tolerance`` (relative residual at which the solver stops) are ours.
"""

import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.func import functional_call, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from unlearn.api.methods import (
    Budget,
    Classifier,
    Diverged,
    MethodContext,
    Natural,
    NonNegative,
    Positive,
    Section,
    scopes,
    to_float,
)

DATA_ROLES = ("retain", "forget")
TUNING_GRID = {"alpha": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)}

log = logging.getLogger("unlearn")

Weights = dict[str, torch.Tensor]


class Settings(Section):
    alpha: NonNegative = 1.0
    damping: Positive = 0.01
    samples: Budget = 1000
    iterations: Natural = 50
    tolerance: NonNegative = 0.001
    batch_size: Natural = 256


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Add alpha · (F + damping · 1)⁻¹ v to the scope's weights."""
    scopes.freeze(model, context.scope)
    model.eval()
    share = len(context.images("forget")) / (len(context.images("forget")) + len(context.images("retain")))
    v = share * (mean_gradient(model, context, "forget", settings) - mean_gradient(model, context, "retain", settings))
    k, residual = conjugate_gradients(
        damped_fisher(model, context, settings), v, settings.iterations, settings.tolerance
    )
    if not k.isfinite().all():
        raise Diverged(f"the influence is not finite at damping {settings.damping:g}")
    log.info("norm of the step %.3g, relative residual %.2g", settings.alpha * k.norm(), residual)
    trainable = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter, step in zip(trainable, k.split([p.numel() for p in trainable]), strict=True):
            parameter.add_(step.view_as(parameter), alpha=settings.alpha)


def mean_gradient(model: Classifier, context: MethodContext, role: str, settings: Settings) -> torch.Tensor:
    """Gradient of the mean cross-entropy over a role, flat [P] over the trainable parameters."""
    images, trainable = context.images(role), [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in trainable), device=context.device)
    for index in torch.arange(len(images), device=context.device).split(settings.batch_size):
        with context.step(f"gradient {role}", len(index)):
            loss = F.cross_entropy(model(to_float(images.pixels[index])), images.labels[index], reduction="sum")
            total += flat(torch.autograd.grad(loss / len(images), trainable))
    return total


def damped_fisher(
    model: Classifier, context: MethodContext, settings: Settings
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The map from u [P] to (F + damping · 1) u, with F over a fixed sample of the retain set."""
    images = context.images("retain")
    order = torch.randperm(len(images), generator=context.generator("influence sample"))
    images = images.select(order[: settings.samples].to(context.device))
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def product(u: torch.Tensor) -> torch.Tensor:
        pieces = zip(weights.items(), u.split([p.numel() for p in weights.values()]), strict=True)
        direction = {name: piece.view_as(p) for (name, p), piece in pieces}
        total = settings.damping * u
        for pixels in images.pixels.split(settings.batch_size):
            with context.step("product", len(pixels)):
                total += flat(fisher_product(model, weights, to_float(pixels), direction).values()) / len(images)
        return total

    return product


def fisher_product(model: Classifier, weights: Weights, x: torch.Tensor, direction: Weights) -> Weights:
    """Sum over the images ``x`` [B, C, H, W] of Jᵀ (diag p - p pᵀ) J ``direction``."""

    def logits(weights: Weights) -> torch.Tensor:
        return functional_call(model, weights, (x,))

    # The fused attention kernels have no forward-mode derivative.
    with sdpa_kernel(SDPBackend.MATH):
        _, change = jvp(logits, (weights,), (direction,))
        output, pull = vjp(logits, weights)
    p = output.softmax(1)
    return pull(p * (change - (p * change).sum(1, keepdim=True)))[0]


def conjugate_gradients(
    product: Callable[[torch.Tensor], torch.Tensor], v: torch.Tensor, iterations: int, tolerance: float
) -> tuple[torch.Tensor, float]:
    """The solution of product(k) = ``v`` for a symmetric positive definite map, and ‖residual‖ / ‖v‖."""
    k, residual, direction = torch.zeros_like(v), v.clone(), v.clone()
    square = start = residual.dot(residual)
    for _ in range(iterations):
        if square <= tolerance**2 * start:
            break
        image = product(direction)
        step = square / direction.dot(image)
        k += step * direction
        residual -= step * image
        square, before = residual.dot(residual), square
        direction = residual + square / before * direction
    return k, (square / start.clamp(min=torch.finfo(v.dtype).tiny)).sqrt().item()


def flat(tensors: object) -> torch.Tensor:
    """One vector of all elements."""
    return torch.cat([tensor.flatten() for tensor in tensors])
