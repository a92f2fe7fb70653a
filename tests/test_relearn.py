"""Relearning: which images, which steps, and that it tells a model that forgot nothing from one that never knew."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import CLASSES, SHAPE, image_set
from test_metrics import evidence, measured, rows, values

from unlearn.config.settings import Training
from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.io.schema.relearning import RELEARNING
from unlearn.io.schema.split import SPLIT
from unlearn.metrics import relearning
from unlearn.models import checkpoint
from unlearn.models.classifier import create
from unlearn.models.images import ImageSet, to_float
from unlearn.run import Run
from unlearn.stages import predict, relearn
from unlearn.stages.relearn import RelearnSettings, curve, divide, recorded
from unlearn.training.context import MethodContext
from unlearn.training.loop import Diverged, fit

RUN, CPU = Run("net", "ten", "cf", "all", 0), torch.device("cpu")
SETTINGS = RelearnSettings(images=5, steps=6, optimizer="sgd", lr=0.05, momentum=0.9)


@pytest.fixture
def weights(net, tmp_path):
    """A classifier on disk, with running statistics of some images."""
    net.train()(to_float(image_set().pixels))
    checkpoint.save(net.eval(), tmp_path / "model.safetensors", {})
    return str(tmp_path / "model.safetensors")


@pytest.fixture
def relearned(weights, dataset, split, tmp_path):
    """``relearned(split=..., settings=...)``: the table that the stage writes, and its metadata."""

    def run(split=split, settings=SETTINGS):
        out = str(tmp_path / "relearning.parquet")
        relearn.relearn(RUN, weights, dataset, split, out, settings, "cpu")
        return tables.read(RELEARNING, out).to_pandas(), tables.metadata(out)

    return run


# --- which images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "taken"), [(1, 1), (2, 2), (3, 3), (5, 3), (100, 3)])
def test_a_class_keeps_at_least_half_of_its_images_for_the_test(count, taken):
    shown, tested = divide(image_set(25), count)  # seven images of class 0, six of each other
    assert np.bincount(shown.labels).tolist() == [taken] * CLASSES
    assert sorted([*shown.ids.tolist(), *tested.ids.tolist()]) == list(range(100, 125))


def test_more_images_are_more_of_the_same():
    few, many = (set(divide(image_set(), count)[0].ids.tolist()) for count in (1, 2))
    assert few < many


def test_a_class_of_one_image_is_only_tested():
    found = image_set(5)  # two images of class 0
    shown, tested = divide(found, 5)
    assert shown.labels.tolist() == [0]
    assert sorted(tested.labels.tolist()) == [0, 1, 2, 3]


def test_the_same_images_for_every_run(relearned, weights, dataset, split):
    _, one = relearned()
    checkpoint.save(create(checkpoint.load(weights).spec, seed=9), weights, {})
    found, other = relearned()
    assert one["relearned"] == other["relearned"]
    assert len(one["relearned"]) == 4, "of ten images, three, three, two and two of a class"
    assert set(found["n"]) == {6}
    assert set(one["relearned"]) < set(range(10))
    assert set(one["beside"]) < set(range(10, 40))
    assert len(one["beside"]) == sum(min(5, size // 2) for size in (7, 7, 8, 8))


def test_retained_images_are_learned_beside_the_forgotten(relearned, monkeypatch):
    seen = []
    monkeypatch.setattr(relearn, "curve", lambda net, shown, *rest: seen.append(shown.ids.tolist()) or [(0, 0.0)])
    described = relearned()[1]
    assert seen == [described["relearned"] + described["beside"]]


# --- which steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "expected"), [(2, [0, 1, 2]), (6, [0, 1, 2, 4, 6]), (8, [0, 1, 2, 4, 8]), (9, [0, 1, 2, 4, 8, 9])]
)
def test_accuracy_is_recorded_at_doubling_steps(steps, expected):
    assert recorded(steps) == expected


def test_it_begins_where_predict_ends(relearned, weights, dataset, split, tmp_path):
    found, described = relearned()
    out = str(tmp_path / "predictions.parquet")
    predict.predict(RUN, weights, dataset, split, out, "cpu")
    table = tables.read(PREDICTIONS, out)
    right = tables.matrix(table["logits"]).argmax(1) == table["label"].to_numpy()
    tested = (table["role"].to_numpy() == "forget") & ~np.isin(table["id"].to_numpy(), described["relearned"])
    assert found["step"].tolist() == [0, 1, 2, 4, 6]
    assert found.loc[0, "accuracy"] == right[tested].mean()
    assert set(found["n"]) == {tested.sum()}


def test_twice_the_same_bits(relearned, net):
    one, other = relearned()[0], relearned()[0]
    assert one.equals(other)
    net = net.eval()
    nets = [copy.deepcopy(net) for _ in range(2)]
    for each in nets:
        list(curve(each, *divide(image_set(), 3), SETTINGS, CPU))
    assert all(torch.equal(a, b) for a, b in zip(nets[0].state_dict().values(), nets[1].state_dict().values()))
    assert not all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), net.parameters()))


def test_steps_by_hand(net, monkeypatch):
    """SGD with momentum on the mean loss, all parameters, no weight decay; in evaluation mode however it is batched."""
    monkeypatch.setattr(relearn, "BATCH", 3)
    net.train()(to_float(image_set().pixels))
    expected, (shown, tested) = copy.deepcopy(net.eval()), divide(image_set(), 2)
    before = {name: tensor.clone() for name, tensor in net.named_buffers()}
    list(curve(net, shown, tested, SETTINGS, CPU))
    velocity = [torch.zeros_like(p) for p in expected.parameters()]
    for _ in range(SETTINGS.steps):
        loss = F.cross_entropy(expected(to_float(shown.pixels)), shown.labels)
        gradients = torch.autograd.grad(loss, list(expected.parameters()))
        for parameter, v, gradient in zip(expected.parameters(), velocity, gradients):
            v.mul_(0.9).add_(gradient)
            parameter.data.sub_(0.05 * v)
    for (name, found), wanted in zip(net.named_parameters(), expected.parameters()):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5, msg=name)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.named_buffers()), "running statistics stay"


def test_dropout_plays_no_part(spec):
    without, dropping = create(spec, seed=0), create(replace(spec, args={**spec.args, "drop_rate": 0.9}), seed=0)
    for net in (without, dropping):
        list(curve(net, *divide(image_set(), 3), SETTINGS, CPU))
    assert all(torch.equal(*pair) for pair in zip(without.parameters(), dropping.parameters()))


def test_a_model_that_diverges_says_so(net):
    wild = RelearnSettings(images=5, steps=4, optimizer="sgd", lr=1e30, momentum=0.9)
    with pytest.raises(
        Diverged, match=r"relearning: after step \d at learning rate 1e\+30 the logits of .* are not finite"
    ):
        list(curve(net.eval(), *divide(image_set(), 3), wild, CPU))


# --- a class that is forgotten --------------------------------------------------------------------


def pictures(count, seed):
    """Noisy pictures of one pattern per class, that are easy to learn."""
    draw = torch.Generator().manual_seed(1)
    patterns = torch.randint(256, (CLASSES, *SHAPE), generator=draw)
    noise = torch.randint(-100, 101, (count, *SHAPE), generator=draw.manual_seed(seed))
    labels = torch.arange(count) % CLASSES
    return ImageSet(torch.arange(count), (patterns[labels] + noise).clamp(0, 255).to(torch.uint8), labels)


RECIPES = {
    "batchnorm": Training(epochs=6, lr=0.05, batch_size=32),
    "layernorm": Training(epochs=12, lr=0.01, batch_size=32, optimizer="adamw"),
}


@pytest.mark.parametrize("spec", RECIPES, indirect=True, ids=RECIPES)
def test_the_original_relearns_a_class_faster_than_retraining(spec, request):
    recipe = RECIPES[request.node.callspec.id]
    known, curves = pictures(160, 2), []
    forget, retain = known.select(known.labels == 3), known.select(known.labels != 3)
    again, tested = divide(forget, 5)
    for data in (known, retain):
        context, net = MethodContext(0, spec, {"retain": data}, CPU), create(spec, seed=0)
        fit(net, recipe, context, lambda epoch, context=context: context.batches("retain", epoch, recipe.batch_size))
        own = RelearnSettings(5, 32, recipe.optimizer, recipe.lr * 0.3, recipe.momentum)
        curves.append(np.array(list(curve(net, again + divide(retain, 5)[0], tested, own, CPU)))[:, 1])
        assert (predict.logits(net, retain, CPU).argmax(1) == 3).mean() < 0.1, "it does not answer 3 always"
    original, exact = curves
    assert exact[0] == 0.0, "it never saw the class"
    assert original[0] > 0.9
    assert (original >= exact).all()
    assert original[1:].mean() > exact[1:].mean() + 0.1


# --- nothing to relearn ---------------------------------------------------------------------------


def test_one_forgotten_image_leaves_an_empty_table(relearned, tmp_path):
    path = tmp_path / "one.parquet"
    tables.write(SPLIT, path, {"id": np.arange(56), "role": ["forget"] + ["retain"] * 39 + ["test"] * 16}, {})
    found, described = relearned(split=str(path))
    assert found.empty
    assert described["relearned"] == []


def test_images_to_relearn_are_a_random_draw():
    """Data sets are often sorted within a class: the first images of one may be frames of a film."""
    labels = torch.arange(400) % 4
    found = ImageSet(torch.arange(400), torch.zeros(400, 1, 1, 1, dtype=torch.uint8), labels)
    shown, tested = divide(found, 20)
    assert shown.labels.bincount().tolist() == [20] * 4
    assert 150 < shown.ids.double().mean() < 250
    assert sorted([*shown.ids.tolist(), *tested.ids.tolist()]) == list(range(400))
    assert shown.ids.tolist() == divide(found, 20)[0].ids.tolist()


def test_a_metric_of_an_empty_table_has_no_value():
    run = evidence()
    empty = measured(replace(run, relearning=run.relearning.iloc[:0]))
    reason = "no class has two forgotten images, one to relearn and one to test"
    assert {row.reason for row in rows("relearning", empty).values()} == {reason}
    (excess,) = rows("relearning", empty, measured(run)).values()
    assert np.isnan(excess.value)
    assert reason in excess.reason


# --- the metric -----------------------------------------------------------------------------------


def of(steps, shares, n=7):
    run = evidence()
    frame = run.relearning.iloc[[0] * len(steps)].assign(step=steps, accuracy=shares, n=n)
    return replace(run, relearning=frame)


def test_by_hand():
    """From 1 to 2 the mean is 0.3, from 2 to 8 it is 0.7 over twice the length."""
    run = of([8, 0, 2, 1], [1.0, 0.1, 0.4, 0.2])
    assert values("relearning", run) == {
        ("relearn_start",): 0.1,
        ("relearn_end",): 1.0,
        ("relearn_area",): pytest.approx((0.3 + 2 * 0.7) / 3),
    }
    assert {row.n for row in rows("relearning", run).values()} == {7}


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_mean_over_a_fine_grid(seed):
    rng = np.random.default_rng(seed)
    steps = np.array(recorded(int(rng.integers(2, 200))))[1:]
    shares = rng.random(len(steps))
    grid = np.linspace(0, np.log2(steps[-1]), 200_001)
    mean = np.interp(grid, np.log2(steps), shares).mean()
    assert relearning.area(steps, shares) == pytest.approx(mean, abs=1e-4)


def test_the_excess_is_over_retraining():
    run, retrain = (measured(of([0, 1, 2], [0.0, share, share])) for share in (0.75, 0.5))
    assert values("relearning", run, retrain) == {("relearn_excess",): 0.25}
    assert values("relearning", retrain, run) == {("relearn_excess",): -0.25}


# --- settings -------------------------------------------------------------------------------------


def test_settings_are_of_the_recipe_what_relearning_uses(config):
    before = Study(config).relearn_settings("vit")
    assert before == {"images": 5, "steps": 32, "lr": pytest.approx(0.0009), "optimizer": "adamw", "momentum": 0.9}
    config["settings"]["archs"]["vit"]["train"] |= {"epochs": 3, "weight_decay": 0.5, "warmup": 1}
    config["settings"]["samples"]["forget"] = 3
    assert Study(config).relearn_settings("vit") == before
    config["settings"]["archs"]["vit"]["train"]["lr"] = 1.0
    assert Study(config).relearn_settings("vit")["lr"] == pytest.approx(0.3)
