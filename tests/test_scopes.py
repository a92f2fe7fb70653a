"""Outside its scope nothing of a model moves, bit for bit, and what lies before it costs no graph."""

import dataclasses
import re

import pytest
import torch
from torch import nn

from unlearn.config.settings import Training
from unlearn.models import scopes
from unlearn.models.classifier import Classifier, Spec, create
from unlearn.models.scopes import ScopeError
from unlearn.training.loop import fit

SCOPES = (*scopes.THIRDS, "intermediate+last", "all", "groups0", "groups2-3")
OPTIMIZERS = {
    "sgd": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.01},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
}


def copied(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(model, before):
    """Names of the parameters and buffers that changed."""
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_thirds_partition_the_state(net):
    parts = [scopes.members(net, third) for third in scopes.THIRDS]
    assert set(net.state_dict()) <= frozenset.union(*parts)
    assert sum(map(len, parts)) == len(frozenset.union(*parts))
    assert all(part & net.state_dict().keys() for part in parts)


def test_thirds_follow_the_order_of_the_layers(net):
    """The stem is first, the head last, and the blocks between them do not jump."""
    found = scopes.thirds(net)
    order = [found[name] for name, _ in net.named_parameters() if "layer" in name or "blocks" in name]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}
    assert all(found[name] == 2 for name, _ in net.named_parameters() if name.startswith(("net.fc", "net.head")))
    assert found[next(name for name, _ in net.named_parameters())] == 0


@pytest.mark.parametrize(
    ("model", "args", "expected"),
    [
        ("resnet50", {}, {"conv1": 0, "layer1.0": 0, "layer2.0": 1, "layer3.5": 1, "layer4.0": 2, "fc": 2}),
        (
            "smallvit",
            {"embed_dim": 8, "mlp_dim": 8, "num_heads": 1, "head_dim": 4},
            {"cls_token": 0, "blocks.1": 0, "blocks.2": 1, "blocks.3": 1, "blocks.4": 2, "norm": 2, "head": 2},
        ),
    ],
)
def test_thirds_of_the_papers_models(model, args, expected):
    """As the module says: layer1 | layer2-3 | layer4, and blocks 1-2 | 3-4 | 5-6."""
    found = scopes.thirds(create(Spec(model, 10, (3, 32, 32), args), 0))
    for start, third in expected.items():
        assert {found[name] for name in found if f"{name}.".startswith(f"net.{start}.")} == {third}, start


def test_unions(net):
    union = scopes.members(net, "intermediate") | scopes.members(net, "last")
    assert scopes.members(net, "intermediate+last") == union
    whole = scopes.members(net, "first+intermediate+last") & net.state_dict().keys()
    assert whole == scopes.members(net, "all") & net.state_dict().keys() == set(net.state_dict())


@pytest.mark.parametrize("scope", ["", "middle", "first+middle", "all+first", "FIRST", "first,last"])
def test_unknown_scopes_are_refused(net, scope):
    with pytest.raises(ScopeError, match=r"is not one of first, intermediate, last, all"):
        scopes.members(net, scope)


def test_models_without_three_groups_are_refused(spec):
    shallow = {**spec.args, "depth": 2} if "depth" in spec.args else {"layers": [1, 1], "channels": [4, 4]}
    with pytest.raises(ScopeError, match="groups between stem and head, needs 3"):
        scopes.members(create(dataclasses.replace(spec, args=shallow), 0), "last")


def test_models_that_do_not_say_their_groups_are_refused(spec):
    with pytest.raises(ScopeError, match="does not say how its parameters group"):
        scopes.members(Classifier(nn.Linear(2, 2), spec), "last")


@pytest.mark.parametrize("settings", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("scope", SCOPES)
def test_nothing_moves_outside_and_all_moves_inside(net, make_context, scope, settings):
    """After several steps with momentum and weight decay; running statistics included."""
    context, before = make_context(net.spec, scope), copied(net)
    inside = scopes.members(net, scope) & before.keys()
    fit(net, Training(epochs=2, batch_size=8, **settings), context, lambda epoch: context.batches("retain", epoch, 8))
    assert moved(net, before) == inside


def test_a_model_frozen_before_can_move_again(net, make_context):
    for scope in ("first", "last"):
        context, before = make_context(net.spec, scope), copied(net)
        fit(
            net, Training(epochs=1, lr=0.1), context, lambda epoch, context=context: context.batches("retain", epoch, 8)
        )
        assert moved(net, before) <= scopes.members(net, scope)
        assert moved(net, before)


def test_layers_before_the_scope_run_without_autograd(net):
    """They leave plain tensors and store none for a backward pass; the layers of the scope do both."""
    scopes.freeze(net, "last")
    scopes.train(net)
    graphs, stored, per_block = [], [], []

    def note(module, inputs, output):
        graphs.append(output.requires_grad)
        per_block.append(len(stored))
        stored.clear()

    for block in (m for name, m in net.named_modules() if re.fullmatch(r"net\.(layer|blocks\.)\d", name)):
        block.register_forward_hook(note)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: stored.append(tensor) or tensor, lambda tensor: tensor
    ):
        net(torch.rand(2, *net.spec.shape)).sum().backward()
    assert graphs == sorted(graphs)
    assert set(graphs) == {False, True}
    assert [count > 0 for count in per_block] == graphs
    frozen = [p for name, p in net.named_parameters() if name not in scopes.members(net, "last")]
    assert not any(p.requires_grad or p.grad is not None for p in frozen)


@pytest.mark.parametrize("scope", SCOPES)
def test_training_mode_is_the_scopes(net, scope):
    scopes.freeze(net, scope)
    scopes.train(net)
    inside = scopes.members(net, scope)
    for name, module in net.named_modules():
        if state := [f"{name}.{key}".removeprefix(".") for key in module.state_dict()]:
            assert module.training == (set(state) <= inside), name


@pytest.mark.parametrize(
    ("module", "home"),
    [
        ("net.pos_drop", "first"),  # before the blocks
        ("net.blocks.0.attn", "first"),  # has no weights of its own, but drops attention in its forward
        ("net.blocks.0.mlp.drop1", "first"),
        ("net.blocks.0.drop_path1", "first"),
        ("net.blocks.2.attn", "last"),
        ("net.blocks.2.mlp.drop1", "last"),
        ("net.blocks.2.drop_path1", "last"),
    ],
)
@pytest.mark.parametrize("scope", ["first", "last", "all"])
def test_dropout_is_drawn_inside_the_scope_only(module, home, scope):
    args = {"img_size": 8, "patch_size": 2, "embed_dim": 16, "depth": 3, "num_heads": 2}
    drops = {"pos_drop_rate": 0.5, "proj_drop_rate": 0.5, "attn_drop_rate": 0.5, "drop_path_rate": 0.5}
    net = create(Spec("vit_tiny_patch16_224", 4, (1, 8, 8), {**args, **drops}), 0)
    scopes.freeze(net, scope)
    scopes.train(net)
    assert net.get_submodule(module).training == (scope in (home, "all"))


@pytest.mark.parametrize("scope", SCOPES)
def test_reinitialise_replaces_the_scope_and_nothing_else(net, scope):
    fresh, before = create(net.spec, seed=1), copied(net)
    for buffers in fresh.buffers():
        buffers += 1
    scopes.reinitialise(net, fresh, scope)
    inside = scopes.members(net, scope)
    source = fresh.state_dict()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, source[name] if name in inside else before[name]), name
