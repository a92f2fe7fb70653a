"""What the stages that train models share: their settings, the model they start from, and the files they write."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import torch

from unlearn.io import tables
from unlearn.io.schema.cost import COST
from unlearn.io.schema.history import HISTORY
from unlearn.models import checkpoint, classifier, scopes
from unlearn.models.classifier import Classifier
from unlearn.run import ORIGINAL, Run
from unlearn.training.context import MethodContext

log = logging.getLogger("unlearn")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """``method``: the settings of the method, or the recipe of (re)training; ``model``: the architecture (model, args,
    stem, normalize), None for a run that starts from the original weights; ``augment``: crop and flip; ``precision``:
    that of training; ``init``: a file of weights that training starts from."""

    method: dict[str, Any]
    augment: dict[str, Any]
    precision: str
    model: dict[str, Any] | None = None
    init: str | None = None


def starting_model(context: MethodContext, original: str | None) -> Classifier:
    """The model with the ``original`` weights, or with the initialisation of pretraining. Raises ModelError for a model
    that does not take the images.

    Every model is tried on two images before its time is measured: the first forward pass of a process takes 10 ms more
    than later ones (ResNet-10, CPU).
    """
    net = checkpoint.load(original, str(context.device)) if original else context.fresh_model("init")
    classifier.check(net)
    return net


def write(
    net: Classifier,
    context: MethodContext,
    run: Run,
    settings: TrainingSettings,
    model: str,
    history: str,
    cost: str,
    **more: Any,
) -> None:
    """Write a trained model, its history and its cost; ``more`` is metadata of all three."""
    described = {
        "settings": asdict(settings),
        "device": str(context.device),
        "threads": torch.get_num_threads(),
        **more,
    }
    columns = ("epoch", "loss", "lr", "seconds")
    tables.write(HISTORY, history, {key: [row[key] for row in context.history] for key in columns}, described, run)
    inside = {name for name, p in net.named_parameters() if p.requires_grad} if run.method != ORIGINAL else set()
    sizes, layers = {name: p.numel() for name, p in net.named_parameters()}, scopes.layers(net)
    measured = {
        "seconds": context.meter.seconds,
        "cpu_seconds": context.meter.cpu_seconds,
        "peak_memory": context.meter.peak_memory,
        "flops": context.meter.flops,
        "trainable_parameters": sum(sizes[name] for name in inside),
        "parameters": sum(sizes.values()),
        "trainable_layers": sum(names <= inside for names in layers),
        "layers": len(layers),
        "device": torch.cuda.get_device_name() if context.device.type == "cuda" else "cpu",
        "precision": context.precision,
    }
    tables.write(COST, cost, {key: [value] for key, value in measured.items()}, described, run)
    checkpoint.save(net, model, {**described, "run": vars(run)})
    peak = measured["peak_memory"] / 1e6
    log.info(
        "%.2f s, peak %.1f MB, trainable: %d of %d parameters, %d of %d layers",
        *(measured["seconds"], peak, measured["trainable_parameters"], measured["parameters"]),
        *(measured["trainable_layers"], measured["layers"]),
    )
