"""pretrain and unlearn: the two stages that make models."""

import logging
from typing import Any

import torch

from unlearn import checkpoint, images, registry, schema, tables
from unlearn.cost import Meter
from unlearn.hyper import Training, build
from unlearn.job import Job
from unlearn.models import Classifier, Spec
from unlearn.provenance import record
from unlearn.schema import Run
from unlearn.training import fit

log = logging.getLogger("unlearn")


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
) -> None:
    """Train the original model on the whole training split; write weights, history, cost, and the weights
    after every ``follow`` epochs but the last (none if 0)."""
    recipe = build(Training, settings["method"], "train")
    job = Job(
        seed,
        model_spec(dataset, settings["model"]),
        {"retain": images.training_set(dataset).to(device)},  # by the streams of retraining
        torch.device(device),
        augment=settings["augment"],
        precision=settings["precision"],
        stored_prefix=settings["stored_prefix"],
    )
    net = job.fresh_model("init")
    with Meter(net, job.device) as job.meter:
        kept: dict[int, dict[str, torch.Tensor]] = {}

        def keep(net: Classifier, epoch: int) -> None:
            if follow and epoch % follow == 0 and epoch < recipe.epochs:
                kept[epoch] = {name: tensor.cpu().clone() for name, tensor in net.state_dict().items()}

        fit(net, recipe, job, lambda epoch: job.batches("retain", epoch, recipe.batch_size), after_epoch=keep)
    checkpoint.save_snapshots(kept, snapshots)
    _write(net, job, Run(arch, "none", "pretrain", "all", seed), settings, model, history, cost)


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
) -> None:
    """Run one method on one scope, starting from the ``original`` weights (none for a full retrain),
    with the setting that a ``tuning`` table chose, if there is one."""
    if tuning:
        settings = {**settings, "method": {**settings["method"], **chosen(tuning)}}
    net, job = unlearned(Run(**run), dataset, split, original, settings, device)
    _write(net, job, Run(**run), settings, model, history, cost)


def unlearned(
    run: Run, dataset: str, split: str, original: str | None, settings: dict[str, Any], device: str
) -> tuple[Classifier, Job]:
    """The unlearned model, and the job that holds its history and cost."""
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
    )
    net = checkpoint.load(original, device) if original else job.fresh_model("init")
    with Meter(net, job.device) as job.meter:
        method.unlearn(net, job, registry.settings("methods", run.method, settings["method"]))
    return net, job


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
