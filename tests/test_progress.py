"""A job that is stopped anywhere goes on to the same bits as one that never was."""

import os
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from conftest import EXECUTION, NETS, image_set, spec_of
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
from unlearn.stages.shadow_split import ShadowSettings, shadow_split
from unlearn.stages.unlearn import unlearn
from unlearn.training.artifacts import TrainingSettings
from unlearn.training.context import MethodContext

QUICK = {
    "epochs": 3,
    "batch_size": 8,
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
BATCHNORM, CPU = spec_of("batchnorm"), torch.device("cpu")
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


def context_of(method, spec, progress):
    """A context whose forget set is a whole class."""
    images = image_set(20)
    gone = images.labels == 3
    sets = {"retain": images.select(~gone), "forget": images.select(gone)}
    data = {role: sets[role] for role in plugins.load("methods", method).DATA_ROLES}
    return MethodContext(0, spec, data, CPU, augment={"crop": 1, "flip": True}, progress=progress)


def outcome(method, spec, progress):
    """What a method makes of a fresh model: its state, history, peak of memory and FLOPs."""
    net, context = create(spec, 0), context_of(method, spec, progress)
    plugin = plugins.load("methods", method)
    known = plugin.Settings.model_fields
    with Meter(net, CPU, context.data.values()) as context.meter:
        plugin.unlearn(net, context, plugin.Settings(**{key: value for key, value in QUICK.items() if key in known}))
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in context.history]
    return net.state_dict(), history, (context.meter.peak_memory, context.meter.flops)


def same(one, other):
    assert one[1:] == other[1:]
    assert all(torch.equal(tensor, other[0][name]) for name, tensor in one[0].items())
    return True


@pytest.mark.parametrize("method", plugins.names("methods"))
def test_every_method_resumes_to_the_same_bits(spec, method, tmp_path):
    """Stopped half-way: as epochs are odd in number, within one. At its end a resumed job draws all its batches again,
    and nothing that a method carries from one epoch to the next could be missing."""
    whole, rest = Stopped(None), Stopped(tmp_path)
    straight = outcome(method, spec, whole)
    if method in AT_ONCE:
        assert not whole.steps
        return
    with pytest.raises(SystemExit):
        outcome(method, spec, Stopped(tmp_path, whole.steps // 2))
    assert same(straight, outcome(method, spec, rest))
    assert rest.steps < whole.steps


def test_stopped_again_and_again(tmp_path):
    straight, stops = outcome("unsir", BATCHNORM, Progress()), 0
    while True:
        try:
            resumed = outcome("unsir", BATCHNORM, Stopped(tmp_path / "p", 3))
            break
        except SystemExit:
            stops += 1
    assert stops > 3
    assert same(straight, resumed)


def test_dropout_goes_on_where_it_was(spec, tmp_path):
    without = outcome("cf", spec, Progress())
    spec = replace(spec, args={**spec.args, "drop_rate": 0.3})
    straight = outcome("cf", spec, Progress())
    assert straight[1] != without[1]
    with pytest.raises(SystemExit):
        outcome("cf", spec, Stopped(tmp_path, 3))
    assert same(straight, outcome("cf", spec, Progress(tmp_path, "job")))


@pytest.mark.parametrize("damage", ["foreign", "torn"])
def test_progress_of_another_job_or_torn_is_ignored(tmp_path, damage):
    straight = outcome("cf", BATCHNORM, Progress())
    with pytest.raises(SystemExit):
        outcome("cf", BATCHNORM, Stopped(tmp_path, 4, "other" if damage == "foreign" else "job"))
    (file,) = tmp_path.iterdir()
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:-100])
    assert same(straight, outcome("cf", BATCHNORM, Progress(tmp_path, "job")))


def test_what_was_spent_counts_once(monkeypatch):
    """Seven seconds on the way back to where the job was killed, one after it."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    with Meter(create(BATCHNORM, 0), CPU) as meter:
        now[0] += 7
        meter.load_state_dict({"spent": (10.0, 5.0), "peak": 2, "flops": 3, "phases": {}})
        now[0] += 1
    assert (meter.seconds, meter.cpu_seconds, meter.flops) == (11.0, 6.0, 3)


@pytest.mark.parametrize("attack", plugins.names("attacks"))
def test_every_attack_resumes_to_the_same_outcome(attack, tmp_path):
    plugin = plugins.load("attacks", attack)
    few = {"steps", "target_steps", "targets", "queries", "draws"} & set(plugin.Settings.model_fields)
    own = plugin.Settings(**dict.fromkeys(few, 2))
    radii = [0.02, 0.1] if plugin.THREAT_NORM == "linf" else [0.2, 1.0]

    def search(progress):
        aim = getattr(plugin, "AIM", "fool")
        net, images = create(BATCHNORM, 0), image_set(12)
        return attack_search.search(
            net, images, radii, lambda m, e: plugin.build(m, e, own), 0, plugin.THREAT_NORM, aim, 4, progress
        )

    whole = Stopped(None)
    straight = search(whole)
    with pytest.raises(SystemExit):
        search(Stopped(tmp_path, whole.steps // 2))
    again = search(Progress(tmp_path, "job"))
    for one, other in zip(straight[:3], again[:3], strict=True):
        assert torch.equal(one.nan_to_num(-1.0), other.nan_to_num(-1.0))
    assert straight[3:] == again[3:]


def test_an_attack_is_stopped_within_a_batch(tmp_path):
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

    def search(progress):
        attack_search.search(create(BATCHNORM, 0), image_set(), [0.1], build, 0, batch_size=2, progress=progress)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(SystemExit):
            search(Progress(tmp_path, "job"))
        search(Progress(tmp_path, "job"))
    finally:
        signal.signal(signal.SIGTERM, previous)
    resumed = sum(batches) - batches[1]
    batches[:] = [0, 0]
    search(Progress())
    assert resumed == sum(batches)


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
    method = {"epochs": 5, "batch_size": 8, "lr": 0.05}
    settings = TrainingSettings(model=NETS["batchnorm"], method=method, **EXECUTION)
    half, split = (str(tmp_path / name) for name in ("half.parquet", "split.parquet"))
    shadow_split(dataset, half, split, 0, ShadowSettings(fraction=0.3, seed=2000))
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
