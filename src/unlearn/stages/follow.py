"""follow: the spread of activations, and test accuracy, along pretraining."""

from collections.abc import Iterator
from dataclasses import asdict

import torch

from unlearn.evaluation.activations import ProbeSettings, spreads
from unlearn.io import tables
from unlearn.io.schema.trajectory import TRAJECTORY
from unlearn.metrics.accuracy import accuracy
from unlearn.models import checkpoint, images
from unlearn.models.classifier import Classifier
from unlearn.models.device import prepare
from unlearn.run import Run
from unlearn.stages.predict import logits


def follow(run: Run, model: str, snapshots: str, dataset: str, out: str, settings: ProbeSettings, device: str) -> None:
    """Of every snapshot and of the final ``model``, on test images; ``settings``: as for probe."""
    device = prepare(device)
    found = images.test_set(dataset)
    with tables.Writer(TRAJECTORY, out, {"settings": asdict(settings), "device": str(device)}) as writer:
        for epoch, net in along(model, snapshots, device):
            right = accuracy(found.labels.numpy(), logits(net, found, device))
            rows = list(spreads(net, found.to(device), settings.at, settings.sigma))
            writer.write(
                {
                    "arch": [run.arch] * len(rows),
                    "seed": [run.seed] * len(rows),
                    "epoch": [epoch] * len(rows),
                    "accuracy": [right] * len(rows),
                    "layer": [row.layer for row in rows],
                    "depth": [row.depth for row in rows],
                    "class": [row.label for row in rows],
                    "sigma": [row.sigma for row in rows],
                }
            )


def along(model: str, snapshots: str, device: torch.device) -> Iterator[tuple[int, Classifier]]:
    """(epoch, model as it was then), the final one last."""
    net = checkpoint.load(model, device)
    final = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for epoch, state in checkpoint.snapshots(snapshots):
        net.load_state_dict(state)
        yield epoch, net
    net.load_state_dict(final)
    yield checkpoint.metadata(model)["settings"]["method"]["epochs"], net
