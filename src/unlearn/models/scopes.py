"""Layer scopes: the part of a model that is trainable. The rest is frozen.

timm divides the parameters of every model into ordered groups (``group_matcher``, made for layer-wise learning rates).
The groups between stem and head form three thirds. The stem belongs to the first third; the final norm and the head
belong to the last. A ResNet-50 gives stem + layer1 | layer2-3 | layer4 + fc; a transformer of depth 6 gives embedding +
blocks 1-2 | 3-4 | 5-6 + norm + head. ``groupsA-B`` names a range of timm's groups themselves: group 0 is the stem, the
last group is the final norm and the head.
"""

import torch
from timm.models._manipulate import group_with_matcher
from torch import nn

from unlearn.config.scope_grammar import THIRDS, ScopeError, parse
from unlearn.run import ALL

UNMATCHED = "\0"


def groups(model: nn.Module) -> dict[str, int]:
    """Name of each parameter, buffer and stateless module → the number of its group; 0 is the stem.

    Raises ScopeError for a model without timm's ``group_matcher`` or groups in its spec, and for groups that leave out
    a parameter or hold none.
    """
    net = model.net
    state = net.state_dict()
    stateless = [name for name, module in net.named_modules() if name and not module.state_dict()]
    if model.spec.groups:
        matched = _by_beginnings(model.spec.groups, [*state], stateless)
    elif hasattr(net, "group_matcher"):
        # A name that matches no pattern comes after all blocks, where timm puts the head.
        matched = group_with_matcher(
            iter([(name, None) for name in (*state, *stateless, UNMATCHED)]),
            net.group_matcher(coarse=True),
            reverse=True,
        )
    else:
        raise ScopeError(f"model {model.spec.model!r} does not say how its parameters group: it has no group_matcher")
    order = {group: i for i, group in enumerate(sorted({matched[name] for name in (*state, UNMATCHED)}))}
    group = {name: order[matched[name]] for name in state}
    # The patterns are made for parameters. A module without any that matches no pattern (dropout or activation of the
    # stem) belongs to the group of the module that was registered before it.
    last = 0
    for name, module in net.named_modules():
        for key in (*module._parameters, *module._buffers):
            last = group.get(f"{name}.{key}" if name else key, last)
        if name in stateless:
            group[name] = last if matched[name] == matched[UNMATCHED] else order.get(matched[name], last)
    return {f"net.{name}": number for name, number in group.items()}


def _by_beginnings(groups: list[list[str]], state: list[str], stateless: list[str]) -> dict[str, int]:
    """Name → number of the group that holds its longest beginning, in whole parts between dots; stateless modules
    without one as timm's unmatched ones."""
    numbers = {beginning: number for number, group in enumerate(groups) for beginning in group}

    def number(name: str) -> int | None:
        parts = name.split(".")
        found = (numbers.get(".".join(parts[:length])) for length in range(len(parts), 0, -1))
        return next((number for number in found if number is not None), None)

    matched = {name: number(name) for name in state}
    if outside := [name for name, group in matched.items() if group is None]:
        raise ScopeError(f"groups: {len(outside)} parameters are in none, first {outside[0]}")
    if empty := set(range(len(groups))) - set(matched.values()):
        raise ScopeError(f"groups.{min(empty)}: holds no parameter")
    last = len(groups)  # no group's, so that the module before them decides
    return {**matched, **{name: last if (n := number(name)) is None else n for name in stateless}, UNMATCHED: last}


def thirds(model: nn.Module) -> dict[str, int]:
    """As ``groups``, with the numbers 0 (first), 1 (intermediate) and 2 (last).

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

    Raises ScopeError for a text that is no scope (``unlearn.config.scope_grammar``), and for a scope that the model
    does not have.
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


def layers(model: nn.Module) -> list[set[str]]:
    """The layers of a model, modules with parameters of their own, as the names of these parameters."""
    own = (
        {f"{n}.{key}" if n else key for key in m._parameters if m._parameters[key] is not None}
        for n, m in model.named_modules()
    )
    return [names for names in own if names]


def freeze(model: nn.Module, scope: str) -> None:
    """Make the parameters of the scope trainable and all others frozen; note the modules that ``train`` switches.

    A module is switched to training mode if all of it is in the scope, since dropout may be in the code of its parent
    and not in a module of its own (timm's attention). Autograd starts at the first trainable layer: the layers before
    it run as under ``no_grad`` and store no activations.
    """
    inside = members(model, scope)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in inside)
    model.trainable = []  # names: a model that holds itself is freed by the cycle collector only
    for name, module in model.named_modules():
        state = [f"{name}.{key}" if name else key for key in module.state_dict()]
        if (state and inside.issuperset(state)) or name in inside:
            model.trainable.append(name)


def train(model: nn.Module) -> None:
    """Set training mode inside the scope of ``freeze`` and evaluation mode outside it. A frozen batch norm uses its
    running statistics and leaves them as they are; a frozen dropout does nothing."""
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
