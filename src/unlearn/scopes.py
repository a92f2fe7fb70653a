"""Layer scopes: which part of a model may move, and how the rest is kept still.

timm groups every model's parameters into ordered stages (``group_matcher``, made for layer-wise
learning rates). The stages between stem and head are divided into three thirds; the stem belongs
to the first, everything after the blocks (final norm, head) to the last. A ResNet-50 gives stem +
layer1 | layer2-3 | layer4 + fc; a transformer of depth 6 gives embedding + blocks 1-2 | 3-4 |
5-6 + norm + head.
"""

import torch
from timm.models._manipulate import group_with_matcher
from torch import nn

THIRDS = ("first", "intermediate", "last")
UNMATCHED = "\0"


class ScopeError(ValueError):
    """A scope that the model does not have."""


def thirds(model: nn.Module) -> dict[str, int]:
    """Name of each parameter, buffer and stateless module → 0 (first), 1 (intermediate), 2 (last).

    Raises ScopeError for a model with fewer than three stages between stem and head.
    """
    net = model.net
    if not hasattr(net, "group_matcher"):
        raise ScopeError(f"model {model.spec.model!r} does not say how its parameters group into stages")
    stateless = [name for name, module in net.named_modules() if name and not module.state_dict()]
    # A name that no pattern matches falls behind all blocks, where timm puts the head.
    names = [(name, None) for name in (*net.state_dict(), *stateless, UNMATCHED)]
    stage = group_with_matcher(iter(names), net.group_matcher(coarse=True), reverse=True)
    tail = stage.pop(UNMATCHED)
    body = sorted({s for s in stage.values() if 0 < s < tail})
    if len(body) < 3:
        raise ScopeError(f"model {model.spec.model!r} has {len(body)} stages between stem and head, needs 3")
    cuts = [body[0] + round(len(body) / 3), body[0] + round(2 * len(body) / 3)]
    return {f"net.{name}": sum(s >= cut for cut in cuts) for name, s in stage.items()}


def members(model: nn.Module, scope: str) -> frozenset[str]:
    """Names of the parameters, buffers and stateless modules inside a scope.

    ``scope`` is "all" or thirds joined by "+". Raises ScopeError for anything else.
    """
    if scope == "all":
        return frozenset([*model.state_dict(), *(name for name, _ in model.named_modules())])
    if unknown := [part for part in scope.split("+") if part not in THIRDS]:
        raise ScopeError(f"scope {scope!r}: {unknown[0]!r} is not one of {', '.join(THIRDS)}, all")
    wanted = {THIRDS.index(part) for part in scope.split("+")}
    return frozenset(name for name, third in thirds(model).items() if third in wanted)


def freeze(model: nn.Module, scope: str) -> None:
    """Let only the scope's parameters require gradients, and say which modules ``train`` wakes.

    Autograd then starts at the first trainable layer: what lies before it runs as under
    ``no_grad``, without storing activations.
    """
    inside = members(model, scope)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in inside)
    model.moving = []
    for name, module in model.named_modules():
        own = [*module._parameters, *module._buffers]
        if name in inside or any(f"{name}.{key}" in inside for key in own):
            model.moving.append(module)


def train(model: nn.Module) -> None:
    """Training mode inside the scope set by ``freeze``, evaluation mode outside it: a frozen
    batch norm uses and keeps its running statistics, a frozen dropout does nothing."""
    model.eval()
    for module in model.moving:
        module.training = True


def reinitialise(model: nn.Module, fresh: nn.Module, scope: str) -> None:
    """Copy the scope's parameters and buffers from ``fresh`` into ``model``, in place."""
    inside = members(model, scope)
    source = fresh.state_dict()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in inside:
                tensor.copy_(source[name])
