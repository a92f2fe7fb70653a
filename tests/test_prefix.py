"""Replaying the frozen prefix gives the model that running it gives, and runs it once an image."""

import copy

import pytest
import torch

from unlearn import registry, scopes
from unlearn.models import create
from unlearn.prefix import Prefix, watch

METHODS = ("cf", "rl", "salun", "scrub", "neggrad_plus", "natmu", "bad_teacher", "retrain")


def unlearned(name, job, **more):
    module = registry.load("methods", name)
    model = create(job.spec, seed=0)
    given = {"epochs": 3, "batch_size": 12, "lr": 0.05, "forget_batch_size": 12} | more
    known = module.Settings.__dataclass_fields__
    module.unlearn(model, job, module.Settings(**{k: v for k, v in given.items() if k in known}))
    return model.state_dict()


@pytest.mark.parametrize("scope", ["last", "intermediate+last", "first", "stages3-4"])
@pytest.mark.parametrize("name", METHODS)
def test_same_result_as_without(name, scope, spec, make_job, monkeypatch):
    short = unlearned(name, make_job(spec, scope))
    monkeypatch.setattr(Prefix, "_find", lambda *_: False)
    full = unlearned(name, make_job(spec, scope))
    for key in full:
        assert torch.allclose(short[key], full[key], rtol=1e-4, atol=1e-5), key


@pytest.mark.parametrize(
    ("change", "runs"),
    [({}, 1), ({"augment": {"crop": 1, "flip": False}}, 3), ({"scope": "all"}, 3), ({"stored_prefix": 1e-9}, 3)],
    ids=["stored", "augmented", "nothing frozen", "no room"],
)
def test_the_first_layer_sees_each_image_once(spec, make_job, monkeypatch, change, runs):
    job = make_job(spec, **{"scope": "last", **change})
    seen, real = [], torch.nn.Conv2d._conv_forward

    def count(layer, x, *rest):
        seen.extend([len(x)] if x.shape[1] == 1 else [])
        return real(layer, x, *rest)

    monkeypatch.setattr(torch.nn.Conv2d, "_conv_forward", count)
    monkeypatch.setattr(Prefix, "_find", quietly(Prefix._find, seen))
    unlearned("cf", job)
    assert sum(seen) == runs * len(job.data["retain"])


def quietly(find, seen):
    """``find`` without the images it looks at to find the cut."""

    def found(self, batch):
        before = len(seen)
        usable = find(self, batch)
        del seen[before:]
        return usable

    return found


def test_what_comes_before_the_first_moving_layer(spec, make_job):
    model, x = create(spec, 0), torch.rand(3, *spec.shape)
    scopes.freeze(model, "last")
    logits, found = watch(model.eval(), x)
    assert torch.equal(logits, model(x))
    names = {module: name for name, module in model.net.named_modules()}
    last = names[found[-1][0]]
    assert last == ("layer3" if spec.stem == "cifar" else "blocks.1")
    scopes.freeze(model, "first")
    assert watch(model, x)[1] == []


def test_a_model_that_reads_around_the_cut_runs_in_full(spec, make_job):
    """A skip connection from the image to the logits."""
    job = make_job(spec, "last")
    model = create(spec, 0)
    stem = model.net.conv1 if spec.stem == "cifar" else model.net.patch_embed
    kept = []
    stem.register_forward_hook(lambda module, inputs, output: kept.append(output.mean()))
    real = model.net.forward
    model.net.forward = lambda x: real(x) + kept.pop() * 100
    scopes.freeze(model, "last")
    scopes.train(model)
    assert not Prefix(model, job, 2)._find(next(job.batches("retain", 1, 8)))


def test_a_changed_image_is_not_replayed(spec, make_job):
    job = make_job(spec, "last")
    batch = next(job.batches("retain", 1, 8))
    assert batch.rows is not None
    assert batch._replace(y=batch.y + 1).rows is batch.rows
    assert batch._replace(x=batch.x + 0.1).rows is None
    model = create(spec, 0)
    scopes.freeze(model, "last")
    scopes.train(model)
    stored = Prefix(model, job, 2)
    other = torch.rand_like(batch.x)
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(other)
        for _ in range(2):
            with stored.replay(batch):
                model.eval()
                model(batch.x)
                assert torch.equal(model(other), expected)
