"""Layer scopes: which part of a model may move, and how the rest is kept still.

timm groups every model's parameters into ordered groups (``group_matcher``, made for layer-wise
learning rates). The groups between stem and head are divided into three thirds; the stem belongs
to the first, everything after the blocks (final norm, head) to the last. A ResNet-50 gives stem +
layer1 | layer2-3 | layer4 + fc; a transformer of depth 6 gives embedding + blocks 1-2 | 3-4 |
5-6 + norm + head. ``groupsA-B`` names a range of timm's groups themselves: 0 is the stem, the last
one final norm and head.
"""

import torch
from timm.models._manipulate import group_with_matcher
from torch import nn

from unlearn.config.scope_grammar import THIRDS, ScopeError, parse
from unlearn.run import ALL

UNMATCHED = "\0"


def groups(model: nn.Module) -> dict[str, int]:
    """Name of each parameter, buffer and stateless module → its group, counted from 0 (the stem).

    Raises ScopeError for a model without timm's ``group_matcher``.
    """
    net = model.net
    if not hasattr(net, "group_matcher"):
        raise ScopeError(f"model {model.spec.model!r} does not say how its parameters group")
    state = net.state_dict()
    stateless = [name for name, module in net.named_modules() if name and not module.state_dict()]
    # A name that no pattern matches falls behind all blocks, where timm puts the head.
    found = group_with_matcher(
        iter([(name, None) for name in (*state, *stateless, UNMATCHED)]), net.group_matcher(coarse=True), reverse=True
    )
    order = {group: i for i, group in enumerate(sorted({found[name] for name in (*state, UNMATCHED)}))}
    group = {name: order[found[name]] for name in state}
    # Patterns are made for parameters; what has none and matches none (the stem's dropout or
    # activation) belongs to what was registered before it.
    last = 0
    for name, module in net.named_modules():
        for key in (*module._parameters, *module._buffers):
            last = group.get(f"{name}.{key}" if name else key, last)
        if name in stateless:
            group[name] = last if found[name] == found[UNMATCHED] else order.get(found[name], last)
    return {f"net.{name}": number for name, number in group.items()}


def thirds(model: nn.Module) -> dict[str, int]:
    """As ``groups``, but 0 (first), 1 (intermediate) or 2 (last).

    Raises ScopeError for a model with fewer than three groups between stem and head.
    """
    group = groups(model)
    tail = max(group.values())
    if tail < 4:
        raise ScopeError(f"model {model.spec.model!r} has {tail - 1} groups between stem and head, needs 3")
    cuts = [1 + round((tail - 1) / 3), 1 + round(2 * (tail - 1) / 3)]
    return {name: sum(s >= cut for cut in cuts) for name, s in group.items()}


def members(model: nn.Module, scope: str) -> frozenset[str]:
    """Names of the parameters, buffers and stateless modules inside a scope.

    Raises ScopeError for what is no scope (``unlearn.config.scope_grammar``), and for one that the model does not have.
    """
    if scope == ALL:
        return frozenset([*model.state_dict(), *(name for name, _ in model.named_modules())])
    try:
        part = parse(scope)
    except ScopeError as error:
        raise ScopeError(f"scope {scope!r} {error}") from None
    if isinstance(part, range):
        group = groups(model)
        if part[-1] > max(group.values()):
            raise ScopeError(f"model {model.spec.model!r} has groups 0 to {max(group.values())}")
        return frozenset(name for name, number in group.items() if number in part)
    return frozenset(name for name, third in thirds(model).items() if THIRDS[third] in part)


def freeze(model: nn.Module, scope: str) -> None:
    """Let only the scope's parameters require gradients, and say which modules ``train`` wakes.

    A module wakes if all of it is in the scope: dropout may live in its parent's code rather than in a
    module of its own (timm's attention). Autograd starts at the first trainable layer: what lies
    before it runs as under ``no_grad``, without storing activations.
    """
    inside = members(model, scope)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in inside)
    model.trainable = []  # names, since a model that holds itself would wait for the cycle collector to be freed
    for name, module in model.named_modules():
        state = [f"{name}.{key}" if name else key for key in module.state_dict()]
        if (state and inside.issuperset(state)) or name in inside:
            model.trainable.append(name)


def train(model: nn.Module) -> None:
    """Training mode inside the scope set by ``freeze``, evaluation mode outside it: a frozen
    batch norm uses and keeps its running statistics, a frozen dropout does nothing."""
    model.eval()
    for name in model.trainable:
        model.get_submodule(name).training = True


def reinitialise(model: nn.Module, fresh: nn.Module, scope: str) -> None:
    """Copy the scope's parameters and buffers from ``fresh`` into ``model``, in place."""
    inside = members(model, scope)
    source = fresh.state_dict()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in inside:
                tensor.copy_(source[name])
