"""One image to forget, the commonest request there is: every method, through the stages, to its metrics."""

import functools

import numpy as np
import pytest
from conftest import CLASSES, EXECUTION, NETS, SHAPE, image_set

from unlearn.config import plugins
from unlearn.evaluation.activations import ProbeSettings
from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET
from unlearn.io.schema.metrics import METRICS
from unlearn.io.schema.radii import RADII
from unlearn.io.schema.split import SPLIT
from unlearn.models import checkpoint
from unlearn.run import Run
from unlearn.stages.attack import AttackSettings, attack
from unlearn.stages.measure import measure
from unlearn.stages.predict import predict
from unlearn.stages.probe import probe
from unlearn.stages.unlearn import unlearn
from unlearn.training.artifacts import TrainingSettings
from unlearn.training.context import batch_count

# Of which the tables are made here.
METRIC_FILES = [name for name in plugins.names("metrics") if not hasattr(plugins.load("metrics", name), "NEEDS")]
FAST = {"epochs": 2, "batch_size": 8, "forget_batch_size": 8, "lr": 0.01, "iterations": 3, "noise_images": 4}
ROLES = ("retain", "forget", "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``made(net, kind, method)``: the tables of a run that forgets image 0, in a split of a ``kind``: "random", or
    "class", where it is the only image of its class."""
    folder = tmp_path_factory.mktemp("one")

    @functools.cache
    def data(kind):
        rng, train, test = np.random.default_rng(0), 24, 12
        count = train + test
        label = np.arange(count) % CLASSES if kind == "random" else np.arange(count) % (CLASSES - 1)
        label[0] = 0 if kind == "random" else CLASSES - 1
        columns = {
            "id": np.arange(count),
            "split": ["train"] * train + ["test"] * test,
            "label": label,
            "origin": [f"{i}.png" for i in range(count)],
            "digest": np.arange(count),
            "image": [rng.integers(256, size=SHAPE, dtype=np.uint8).tobytes() for _ in range(count)],
        }
        paths = {name: str(folder / f"{name}-{kind}.parquet") for name in ("dataset", "split", "radii")}
        tables.write(DATASET, paths["dataset"], columns, {"classes": list("abcd"), "shape": list(SHAPE)})
        role = ["forget", *["retain"] * (train - 1), *["test"] * test]
        tables.write(SPLIT, paths["split"], {"id": np.arange(count), "role": role}, {})
        tables.write(RADII, paths["radii"], {"threat_norm": ["linf"], "eps": [0.1], "headline": [True]}, {})
        return paths

    @functools.cache
    def make(net, kind, method):
        paths, run = data(kind), Run(net, kind, method, "all", 0)
        given = {"dataset": paths["dataset"], "split": paths["split"]}
        own = {name: str(folder / f"{net}-{kind}-{method}-{name}") for name in ("model", "history", "cost")}
        known = plugins.load("methods", method).Settings.model_fields
        settings = {key: value for key, value in FAST.items() if key in known}
        model = None if method != "retrain" else NETS[net]
        original = None if method == "retrain" else make(net, kind, "retrain")["model"]
        unlearn(run, **given, **own, settings=TrainingSettings(method=settings, model=model, **EXECUTION),
                device="cpu", original=original)  # fmt: skip
        own |= {name: str(folder / f"{net}-{kind}-{method}-{name}.parquet") for name in ("predictions", "activations")}
        predict(run, own["model"], **given, out=own["predictions"], device="cpu")
        at = ProbeSettings("output", "channel", False, ("test", "forget"))
        probe(run, own["model"], **given, out=own["activations"], settings=at, device="cpu")
        own["adversarial"] = []
        for name in ("fgsm", "recover"):
            own["adversarial"].append(str(folder / f"{net}-{kind}-{method}-{name}.parquet"))
            of_attack = AttackSettings({}, dict.fromkeys(ROLES))
            attack(run, name, own["model"], **given, radii=paths["radii"], out=own["adversarial"][-1],
                   settings=of_attack, device="cpu")  # fmt: skip
        return {"run": run, **own}

    return make


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", plugins.names("methods"))
def test_one_image_is_forgotten_and_measured(made, net, method, tmp_path):
    kind = getattr(plugins.load("methods", method), "FORGET_KINDS", ("random",))[0]
    runs = {name: made(net, kind, name) for name in ("retrain", "original", method)}
    state = checkpoint.state(runs[method]["model"])
    assert all(value.isfinite().all() for value in state.values())
    controls = {f"{name}_predictions": runs[name]["predictions"] for name in ("retrain", "original")}

    def metrics(name, retrain_metrics):
        own = {key: value for key, value in runs[name].items() if key not in ("model", "history")}
        out = str(tmp_path / f"{name}.parquet")
        measure(**own, **controls, out=out, metrics=METRIC_FILES, retrain_metrics=retrain_metrics)
        return out

    exact = metrics("retrain", None)
    found = tables.read(METRICS, exact if method == "retrain" else metrics(method, exact)).to_pandas()
    reference = tables.read(METRICS, exact).to_pandas()
    assert list(found["metric"]) == list(reference["metric"])
    assert found.loc[found["metric"] == "ua", "n"].item() == 1
    absent = found[found["value"].isna()]
    assert absent["reason"].notna().all()
    assert {"mia_logistic", "class_mia_disparity"} <= set(absent["metric"])


def test_no_batch_is_of_one_image():
    """An image that would be left over joins the batch before it; other batches are as many as they were."""
    for size in (2, 3, 7, 64):
        for images in range(1, 200):
            sizes = [len(part) for part in np.array_split(np.arange(images), batch_count(images, size))]
            assert sum(sizes) == images
            assert min(sizes) > 1 or images == 1
            left_over = size == 2 and images % 2 == 1
            assert max(sizes) <= size + left_over
            if not left_over or images == 1:
                assert len(sizes) == -(-images // size)
    assert batch_count(5, 1) == 5


def test_a_batch_of_one_uses_running_statistics_and_keeps_them():
    import torch
    from conftest import spec_of

    from unlearn.models.classifier import create
    from unlearn.models.images import to_float

    net = create(spec_of("batchnorm"), 0)
    x = to_float(image_set(3).pixels)
    expected = net.eval()(x[:1])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    assert torch.equal(net(x[:1]), expected)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules()), "as they were"
    assert not torch.equal(net(x)[:1], expected), "batches of several use their own statistics"
    assert any(not torch.equal(value, before[name]) for name, value in net.state_dict().items())
