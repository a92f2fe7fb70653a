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

COLUMNS = ("layer", "depth", "sigma")  # by the names that they have in a Spread


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
                    **{"arch": run.arch, "seed": run.seed, "epoch": [epoch] * len(rows), "accuracy": right},
                    **{name: [getattr(row, name) for row in rows] for name in COLUMNS},
                    "class": [row.label for row in rows],
                }
            )


def along(model: str, snapshots: str, device: torch.device) -> Iterator[tuple[int | None, Classifier]]:
    """(epoch, model as it was then), the final one last; None for a model that was trained elsewhere."""
    net = checkpoint.load(model, device)
    final = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for epoch, state in checkpoint.snapshots(snapshots):
        net.load_state_dict(state)
        yield epoch, net
    net.load_state_dict(final)
    yield checkpoint.metadata(model)["settings"].get("method", {}).get("epochs"), net
