"""What the stages that make models share: the model they start from, and the files they leave."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import torch

from unlearn.io import tables
from unlearn.io.schema.cost import COST
from unlearn.io.schema.history import HISTORY
from unlearn.models import checkpoint, classifier, images
from unlearn.models.classifier import Classifier, ModelError, Spec
from unlearn.models.normalization import ProbeError, normalization_layers
from unlearn.run import Run
from unlearn.training.context import MethodContext

log = logging.getLogger("unlearn")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is made. ``method``: the settings of the method, or the recipe of (re)training; ``model``: the
    architecture (model, args, stem, normalize), None for a run that starts from the original's weights;
    ``augment``: crop and flip; ``precision``: of training."""

    method: dict[str, Any]
    augment: dict[str, Any]
    precision: str
    model: dict[str, Any] | None = None


def model_spec(dataset: str, model: dict[str, Any]) -> Spec:
    """The spec of a config's architecture for a dataset's classes and image shape."""
    classes, shape = images.describe(dataset)
    return Spec(classes=len(classes), shape=shape, **model)


def starting_model(context: MethodContext, original: str | None, arch: str) -> Classifier:
    """The ``original`` weights, or the initialisation of pretraining. Raises ModelError or ProbeError naming
    the architecture if it does not suit the images, or has nothing to measure a fairness-gap on.

    Every model is tried on two images before its time is taken, the loaded ones too: the first forward pass of a
    process costs 10 ms more than others (ResNet-10, CPU), which would favour those that had one.
    """
    try:
        net = checkpoint.load(original, str(context.device)) if original else context.fresh_model("init")
        classifier.check(net)
        normalization_layers(net)
    except (ModelError, ProbeError) as error:
        raise type(error)(f"settings.archs.{arch}: {error}") from error
    return net


def write(
    net: Classifier, context: MethodContext, run: Run, settings: TrainingSettings, model: str, history: str, cost: str
) -> None:
    """Write a trained model with its history and its cost."""
    described = {"settings": asdict(settings), "device": str(context.device), "threads": torch.get_num_threads()}
    columns = ("epoch", "loss", "lr", "seconds")
    tables.write(HISTORY, history, {key: [row[key] for row in context.history] for key in columns}, described, run)
    moved = sum(p.numel() for p in net.parameters() if p.requires_grad) if run.method != "original" else 0
    measured = {
        "seconds": context.meter.seconds,
        "cpu_seconds": context.meter.cpu_seconds,
        "peak_memory": context.meter.peak_memory,
        "trainable_parameters": moved,
        "parameters": sum(p.numel() for p in net.parameters()),
        "device": torch.cuda.get_device_name() if context.device.type == "cuda" else "cpu",
        "precision": context.precision,
    }
    tables.write(COST, cost, {key: [value] for key, value in measured.items()}, described, run)
    checkpoint.save(net, model, {**described, "run": vars(run)})
    log.info("%.2f s, peak %.1f MB, %d parameters moved", measured["seconds"], measured["peak_memory"] / 1e6, moved)
