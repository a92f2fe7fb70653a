"""pretrain: the original model, which has seen all training images."""

from collections.abc import Container
from functools import partial
from typing import Any

import torch

from unlearn.config.settings import Training
from unlearn.io.progress import NOTHING, Progress
from unlearn.models import checkpoint, images
from unlearn.models.classifier import Classifier
from unlearn.models.cost_meter import Meter
from unlearn.models.device import prepare
from unlearn.run import Run
from unlearn.training.artifacts import TrainingSettings, starting_model, write
from unlearn.training.context import MethodContext
from unlearn.training.loop import fit


def pretrain(
    run: Run,
    dataset: str,
    model: str,
    history: str,
    cost: str,
    snapshots: str,
    settings: TrainingSettings,
    follow: int,
    device: str,
    progress: Progress = NOTHING,
) -> None:
    """Train the original model on the whole training split; write weights, history, cost, and the weights
    after every ``follow`` epochs but the last (none if 0)."""
    device = prepare(device)
    recipe = Training(**settings.method)
    context = MethodContext(
        run.seed,
        images.model_spec(dataset, settings.model),
        {"retain": images.training_set(dataset).to(device)},  # by the streams of retraining
        device,
        augment=settings.augment,
        precision=settings.precision,
        init=settings.init,
        progress=progress,
    )
    net, album = starting_model(context, None), Album(range(follow, recipe.epochs, follow) if follow else ())
    with Meter(net, context.device, context.data.values()) as context.meter:
        batches = partial(context.batches, "retain", size=recipe.batch_size)
        fit(net, recipe, context, batches, after_epoch=album.take, beside=[album])
    checkpoint.save_snapshots(album.states, snapshots)
    write(net, context, run, settings, model, history, cost)


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
