"""pretrain and unlearn: the two stages that make models."""

import logging
from collections.abc import Container
from functools import partial
from typing import Any

import torch

from unlearn import checkpoint, images, models, registry, schema, scopes, tables
from unlearn.cost import Meter
from unlearn.hyper import Training, build
from unlearn.job import AccessError, Job
from unlearn.models import Classifier, ModelError, Spec
from unlearn.norms import ProbeError, norm_layers
from unlearn.progress import NOTHING, Progress
from unlearn.provenance import record
from unlearn.schema import Run
from unlearn.training import fit

log = logging.getLogger("unlearn")


class MethodError(RuntimeError):
    """A method that breaks the rules of methods; the message names its file."""


def pretrain(
    dataset: str,
    model: str,
    history: str,
    cost: str,
    snapshots: str,
    arch: str,
    seed: int,
    settings: dict[str, Any],
    follow: int,
    device: str,
    progress: Progress = NOTHING,
) -> None:
    """Train the original model on the whole training split; write weights, history, cost, and the weights
    after every ``follow`` epochs but the last (none if 0).

    Raises ModelError or ProbeError, before any training, for an architecture that cannot go through the study.
    """
    recipe = build(Training, settings["method"], "train")
    job = Job(
        seed,
        model_spec(dataset, settings["model"]),
        {"retain": images.training_set(dataset).to(device)},  # by the streams of retraining
        torch.device(device),
        augment=settings["augment"],
        precision=settings["precision"],
        stored_prefix=settings["stored_prefix"],
        progress=progress,
    )
    net, album = _start(job, None, arch), Album(range(follow, recipe.epochs, follow) if follow else ())
    with Meter(net, job.device) as job.meter:
        batches = partial(job.batches, "retain", size=recipe.batch_size)
        fit(net, recipe, job, batches, after_epoch=album.take, beside=[album])
    checkpoint.save_snapshots(album.states, snapshots)
    _write(net, job, Run(arch, "none", "pretrain", "all", seed), settings, model, history, cost)


class Album:
    """The states of a model after some ``epochs``, on the CPU."""

    def __init__(self, epochs: Container[int]):
        self.epochs = epochs
        self.states: dict[int, dict[str, torch.Tensor]] = {}

    def take(self, net: Classifier, epoch: int) -> None:
        if epoch in self.epochs:
            self.states[epoch] = {name: tensor.cpu().clone() for name, tensor in net.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"states": self.states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.states = state["states"]


def unlearn(
    run: dict[str, Any],
    dataset: str,
    split: str,
    original: str | None,
    tuning: str | None,
    model: str,
    history: str,
    cost: str,
    settings: dict[str, Any],
    device: str,
    progress: Progress = NOTHING,
) -> None:
    """Run one method on one scope, starting from the ``original`` weights (none for a full retrain),
    with the setting that a ``tuning`` table chose, if there is one."""
    if tuning:
        settings = {**settings, "method": {**settings["method"], **chosen(tuning)}}
    net, job = unlearned(Run(**run), dataset, split, original, settings, device, progress)
    _write(net, job, Run(**run), settings, model, history, cost)


def unlearned(
    run: Run,
    dataset: str,
    split: str,
    original: str | None,
    settings: dict[str, Any],
    device: str,
    progress: Progress = NOTHING,
) -> tuple[Classifier, Job]:
    """The unlearned model, and the job that holds its history and cost.

    Raises MethodError for a method that gives another model than it was given, or moves weights outside the scope.
    """
    method = registry.load("methods", run.method)
    spec = Spec.from_json(checkpoint.metadata(original)["spec"]) if original else model_spec(dataset, settings["model"])
    seen = images.by_role(dataset, split, method.SEES)
    job = Job(
        run.seed,
        spec,
        {role: found.to(device) for role, found in seen.items()},
        torch.device(device),
        scope=run.scope,
        augment=settings["augment"],
        precision=settings["precision"],
        stored_prefix=settings["stored_prefix"],
        progress=progress,
    )
    net = _start(job, original, run.arch)
    own, file = registry.settings("methods", run.method, settings["method"]), f"methods/{run.method}.py"
    try:
        with Meter(net, job.device) as job.meter:
            returned = method.unlearn(net, job, own)
    except AccessError as error:
        raise AccessError(f"{file}: {error}") from error
    if returned is not None:
        raise MethodError(f"{file}: unlearn must change the model it is given, and return nothing")
    if original:
        _check_scope(net, original, run.scope, file)
    return net, job


def _start(job: Job, original: str | None, arch: str) -> Classifier:
    """The ``original`` weights, or the initialisation of pretraining. Raises ModelError or ProbeError naming
    the architecture if it does not suit the images, or has nothing to measure a fairness-gap on.

    Every model is tried on two images before its time is taken, the loaded ones too: the first forward pass of a
    process costs 10 ms more than others (ResNet-10, CPU), which would favour those that had one.
    """
    try:
        net = checkpoint.load(original, str(job.device)) if original else job.fresh_model("init")
        models.check(net)
        norm_layers(net)
    except (ModelError, ProbeError) as error:
        raise type(error)(f"settings.archs.{arch}: {error}") from error
    return net


def _check_scope(net: Classifier, original: str, scope: str, file: str) -> None:
    before, after, inside = checkpoint.state(original), net.state_dict(), scopes.members(net, scope)
    if {name: t.shape for name, t in before.items()} != {name: t.shape for name, t in after.items()}:
        raise MethodError(f"{file}: left a model of another structure")
    outside = [name for name in before if name not in inside]
    if moved := [name for name in outside if not torch.equal(before[name], after[name].cpu())]:
        raise MethodError(f"{file}: moved {moved[0]}, which is outside scope {scope}")


def chosen(tuning: str) -> dict[str, float]:
    """Parameter → value that a tuning table chose."""
    table = tables.read(schema.TUNING, tuning).to_pandas()
    row = table[table["chosen"]].iloc[0]
    return {row["parameter"]: float(row["value"])}


def model_spec(dataset: str, model: dict[str, Any]) -> Spec:
    """The spec of a config's architecture for a dataset's classes and image shape."""
    classes, shape = images.describe(dataset)
    return Spec(classes=len(classes), shape=shape, **model)


def _write(net: Classifier, job: Job, run: Run, settings: dict[str, Any], model: str, history: str, cost: str) -> None:
    metadata = record(settings, run=vars(run), device=str(job.device), threads=torch.get_num_threads())
    columns = ("epoch", "loss", "lr", "seconds")
    tables.write(schema.HISTORY, history, {key: [row[key] for row in job.history] for key in columns}, metadata, run)
    moved = sum(p.numel() for p in net.parameters() if p.requires_grad) if run.method != "original" else 0
    measured = {
        "seconds": job.meter.seconds,
        "cpu_seconds": job.meter.cpu_seconds,
        "peak_memory": job.meter.peak_memory,
        "trainable_parameters": moved,
        "parameters": sum(p.numel() for p in net.parameters()),
        "device": torch.cuda.get_device_name() if job.device.type == "cuda" else "cpu",
        "precision": job.precision,
    }
    tables.write(schema.COST, cost, {key: [value] for key, value in measured.items()}, metadata, run)
    checkpoint.save(net, model, metadata)
    log.info("%.2f s, peak %.1f MB, %d parameters moved", measured["seconds"], measured["peak_memory"] / 1e6, moved)
