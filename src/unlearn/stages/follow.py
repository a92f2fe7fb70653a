"""follow: the spread of activations, and test accuracy, along pretraining."""

from collections.abc import Iterator
from typing import Any

from unlearn import checkpoint, images, schema, tables
from unlearn.activations import spreads
from unlearn.metrics.accuracy import accuracy
from unlearn.models import Classifier
from unlearn.provenance import record
from unlearn.stages.predict import logits


def follow(
    model: str, snapshots: str, dataset: str, out: str, arch: str, seed: int, settings: dict[str, Any], device: str
) -> None:
    """Of every snapshot and of the final ``model``, on test images; ``settings``: as for probe."""
    found = images.test_set(dataset)
    with tables.Writer(schema.TRAJECTORY, out, record(settings, device=device)) as writer:
        for epoch, net in along(model, snapshots, device):
            right = accuracy(found.labels.numpy(), logits(net, found, device))
            rows = list(spreads(net, found.to(device), settings["at"], settings["sigma"]))
            writer.write(
                {
                    "arch": [arch] * len(rows),
                    "seed": [seed] * len(rows),
                    "epoch": [epoch] * len(rows),
                    "accuracy": [right] * len(rows),
                    "layer": [row.layer for row in rows],
                    "depth": [row.depth for row in rows],
                    "class": [row.label for row in rows],
                    "sigma": [row.sigma for row in rows],
                }
            )


def along(model: str, snapshots: str, device: str) -> Iterator[tuple[int, Classifier]]:
    """(epoch, model as it was then), the final one last."""
    net = checkpoint.load(model, device)
    final = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for epoch, state in checkpoint.snapshots(snapshots):
        net.load_state_dict(state)
        yield epoch, net
    net.load_state_dict(final)
    yield checkpoint.metadata(model)["settings"]["method"]["epochs"], net
