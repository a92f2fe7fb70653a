"""A job that is stopped anywhere goes on to the same bits as one that never was."""

import os
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from conftest import EXECUTION, NETS
from safetensors.torch import load_file

from unlearn.config import plugins
from unlearn.evaluation import attack_search
from unlearn.io import tables
from unlearn.io.progress import STOPPED, Progress
from unlearn.io.schema.shadow import SHADOW
from unlearn.models.classifier import create
from unlearn.models.cost_meter import Meter
from unlearn.run import Run
from unlearn.stages.pretrain import pretrain
from unlearn.stages.shadow import shadow
from unlearn.stages.shadow_split import shadow_split
from unlearn.stages.unlearn import unlearn

QUICK = {
    "epochs": 3,
    "batch_size": 5,
    "forget_batch_size": 4,
    "lr": 0.01,
    "weight_decay": 0.01,
    "warmup": 1,
    "schedule": "cosine",
    "repair_epochs": 2,
    "noise_images": 4,
    "noise_steps": 2,
    "noise_repeats": 2,
    "msteps": 2,
    "gamma": 0.001,
}
# Of one computation, not of epochs: begun again from the start.
AT_ONCE = {"original", "fisher", "influence", "ssd"}


class Stopped(Progress):
    """Counts steps, and is told to stop after a number of them; never without one."""

    def __init__(self, folder, after=None, identity="job"):
        super().__init__(folder, identity, seconds=1e9)
        self.after, self.steps = after, 0

    @property
    def due(self):
        self.steps += 1
        self.stopping = self.steps == self.after
        return super().due


@pytest.fixture
def cf_context(spec, make_images):
    """A job whose forget set is a whole class."""

    def make(method, progress, scope="all", augment=None):
        from unlearn.training.context import MethodContext

        every = make_images(33)
        gone = every.labels == 3
        sets = {"retain": every.select(~gone), "forget": every.select(gone)}
        data = {role: sets[role] for role in plugins.load("methods", method).DATA_ROLES}
        augment = augment or {"crop": 1, "flip": True}
        return MethodContext(0, spec, data, torch.device("cpu"), scope, augment=augment, progress=progress)

    return make


def outcome(spec, context, method):
    """What a method makes of a fresh model: its state, history and peak of memory."""
    net = create(spec, 0)
    plugin = plugins.load("methods", method)
    fields = plugin.Settings.__dataclass_fields__
    with Meter(net, context.device) as context.meter:
        plugin.unlearn(net, context, plugin.Settings(**{key: value for key, value in QUICK.items() if key in fields}))
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in context.history]
    # Of influence the first run in a process takes more: it traces functions.
    return net.state_dict(), history, context.meter.peak_memory if method not in AT_ONCE else None


def same(one, other):
    assert one[1:] == other[1:]
    assert all(torch.equal(tensor, other[0][name]) for name, tensor in one[0].items())
    return True


@pytest.mark.parametrize("method", plugins.names("methods"))
def test_every_method_resumes_to_the_same_bits(spec, cf_context, method, tmp_path):
    """Stopped half-way: as epochs are odd in number, within one. At its end a resumed job draws all its batches again,
    and nothing that a method carries from one epoch to the next could be missing."""
    whole, rest = Stopped(None), Stopped(tmp_path)
    straight = outcome(spec, cf_context(method, whole), method)
    try:
        outcome(spec, cf_context(method, Stopped(tmp_path, whole.steps // 2)), method)
        assert method in AT_ONCE
    except SystemExit:
        assert list(tmp_path.iterdir())
    assert same(straight, outcome(spec, cf_context(method, rest), method))
    assert rest.steps < whole.steps or method in AT_ONCE


def test_stopped_again_and_again(spec, cf_context, tmp_path):
    straight, stops = outcome(spec, cf_context("unsir", Progress()), "unsir"), 0
    while True:
        try:
            found = outcome(spec, cf_context("unsir", Stopped(tmp_path / "p", 4)), "unsir")
            break
        except SystemExit:
            stops += 1
    assert stops > 3
    assert same(straight, found)


def test_dropout_goes_on_where_it_was(spec, cf_context, tmp_path):
    without = outcome(spec, cf_context("cf", Progress()), "cf")
    spec = replace(spec, args={**spec.args, "drop_rate": 0.3})

    def context(progress):
        return replace(cf_context("cf", progress), spec=spec)

    straight = outcome(spec, context(Progress()), "cf")
    assert straight[1] != without[1]
    with pytest.raises(SystemExit):
        outcome(spec, context(Stopped(tmp_path, 3)), "cf")
    assert same(straight, outcome(spec, context(Progress(tmp_path, "job")), "cf"))


@pytest.mark.parametrize("damage", ["foreign", "torn"])
def test_progress_of_another_job_or_torn_is_ignored(spec, cf_context, tmp_path, damage):
    straight = outcome(spec, cf_context("cf", Progress()), "cf")
    with pytest.raises(SystemExit):
        outcome(spec, cf_context("cf", Stopped(tmp_path, 4, "other" if damage == "foreign" else "job")), "cf")
    (file,) = tmp_path.iterdir()
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:-100])
    assert same(straight, outcome(spec, cf_context("cf", Progress(tmp_path, "job")), "cf"))


def test_what_was_spent_counts_once(spec, cf_context, tmp_path):
    with pytest.raises(SystemExit):
        outcome(spec, cf_context("cf", Stopped(tmp_path, 4)), "cf")
    net = create(spec, 0)
    with Meter(net, torch.device("cpu")) as meter:
        time.sleep(0.2)
        meter.load_state_dict({"spent": (10.0, 5.0), "live": 1, "peak": 2, "steps": {"retain": 2}})
    assert 10.0 <= meter.seconds < 10.1
    assert meter.steps == {"retain": 2}


@pytest.mark.parametrize("attack", plugins.names("attacks"))
def test_every_attack_resumes_to_the_same_outcome(net, make_images, attack, tmp_path):
    plugin = plugins.load("attacks", attack)
    few = {"steps", "target_steps", "queries", "draws"} & set(plugin.Settings.__dataclass_fields__)
    own = plugin.Settings(**dict.fromkeys(few, 2))
    grid = [0.02, 0.1] if plugin.THREAT_NORM == "linf" else [0.2, 1.0]

    def found(progress):
        return attack_search.search(
            net,
            make_images(24),
            grid,
            lambda m, e: plugin.build(m, e, own),
            0,
            plugin.THREAT_NORM,
            getattr(plugin, "AIM", "fool"),
            batch_size=8,
            progress=progress,
        )

    straight, stops = found(Progress()), 0
    for after in (1, 4):
        folder = tmp_path / str(after)
        try:
            found(Stopped(folder, after))
        except SystemExit:
            stops += 1
        again = found(Progress(folder, "job"))
        for one, other in zip(straight[:3], again[:3], strict=True):
            assert torch.equal(one.nan_to_num(-1.0), other.nan_to_num(-1.0))
        assert straight[3:] == again[3:]
    assert stops


def test_an_attack_is_stopped_within_a_batch(net, make_images, tmp_path):
    """A batch can take minutes, and nothing of it is needed."""
    batches = []

    def build(model, eps):
        def attack(x, y):
            batches.append(len(x))
            if len(batches) == 2:
                signal.raise_signal(signal.SIGTERM)
            return x

        return {"attack": attack}

    def terminate(number, frame):
        raise SystemExit(STOPPED)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(SystemExit):
            attack_search.search(
                net, make_images(24), [0.1], build, 0, batch_size=2, progress=Progress(tmp_path, "job")
            )
        first = batches[0]
        attack_search.search(net, make_images(24), [0.1], build, 0, batch_size=2, progress=Progress(tmp_path, "job"))
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert sum(batches) - batches[1] == first + sum(batches[2:])
    straight = []
    attack_search.search(
        net, make_images(24), [0.1], lambda m, e: {"a": lambda x, y: straight.append(len(x)) or x}, 0, batch_size=2
    )
    assert sum(batches) - batches[1] == sum(straight)


def test_a_sigterm_waits_for_the_end_of_a_step(tmp_path):
    progress = Progress(tmp_path, "job")
    with progress.loop():
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        while not progress.due:
            time.sleep(0.01)
        with pytest.raises(SystemExit) as stop:
            progress.save("1", {"step": torch.tensor(3)})
    assert stop.value.code == STOPPED
    assert Progress(tmp_path, "job").load("1") == {"step": torch.tensor(3)}


def test_saved_at_most_every_so_many_seconds(tmp_path):
    assert Progress(tmp_path, "job", seconds=0).due
    assert not Progress(tmp_path, "job", seconds=60).due
    assert not Progress().due


@pytest.fixture
def stage(dataset, tmp_path):
    """``stage(name, folder, progress)``: run a stage that trains a tiny model, and return what it makes, by name."""
    settings = {"model": NETS["batchnorm"], "method": {"epochs": 5, "batch_size": 5, "lr": 0.05}, **EXECUTION}
    half, split = (str(tmp_path / name) for name in ("half.parquet", "split.parquet"))
    shadow_split(dataset, half, split, 0, {"fraction": 0.3, "seed": 2000})
    run = Run("net", "shadow", "retrain", "all", 2000)

    def pretrained(weights, history, cost, more, **common):
        pretrain(run, dataset, weights, history, cost, more, follow=2, **common)
        snapshots = load_file(more)
        assert {key.partition("/")[0] for key in snapshots} == {"2", "4"}
        return load_file(weights) | snapshots

    def unlearned(weights, history, cost, _, **common):
        unlearn(run, dataset, half, weights, history, cost, **common)
        return load_file(weights)

    def shadowed(scores, *_, **common):
        shadow(run, 0, dataset, split, scores, **common)
        return {"score": torch.tensor(tables.read(SHADOW, scores)["score"].to_numpy())}

    def start(name, folder, progress):
        files = [str(tmp_path / folder / str(number)) for number in range(4)]
        made = {"pretrain": pretrained, "unlearn": unlearned, "shadow": shadowed}[name]
        return made(*files, settings=settings, device="cpu", progress=progress)

    return start


@pytest.mark.parametrize("name", ["pretrain", "unlearn", "shadow"])
def test_every_stage_that_trains_resumes_to_the_same_result(stage, tmp_path, name):
    """Pretraining with its snapshots, stopped between two. Tuning has a test of its own."""
    whole, rest = Stopped(None), Stopped(tmp_path / "p")
    straight = stage(name, "straight", whole)
    after = whole.steps // 2
    with pytest.raises(SystemExit):
        stage(name, "stopped", Stopped(tmp_path / "p", after))
    resumed = stage(name, "stopped", rest)
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert rest.steps == whole.steps - after > 3


def test_done_leaves_nothing(tmp_path):
    progress = Progress(tmp_path / "p", "job")
    progress.save("1", {"a": 1})
    progress.clear()
    assert not (tmp_path / "p").exists()
