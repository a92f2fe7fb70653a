"""The training loop of pretraining, retraining and all methods that train by gradients."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from unlearn.config.settings import Training
from unlearn.io.failures import RunFailed
from unlearn.models import scopes
from unlearn.models.classifier import Classifier
from unlearn.training.context import Batch, MethodContext

log = logging.getLogger("unlearn")

Batches = Callable[[int], Iterator[Batch]]
Loss = Callable[[Classifier, Batch], Tensor]


class Stateful(Protocol):
    """A module, an optimiser, or any other object with a state."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Diverged(RunFailed):
    """The loss, or a quantity that a method computes, is not finite."""


def cross_entropy(model: Classifier, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.x), batch.y)


def fit(
    model: Classifier,
    settings: Training,
    context: MethodContext,
    batches: Batches,
    loss: Loss = cross_entropy,
    after_step: Callable[[Classifier], None] | None = None,
    after_epoch: Callable[[Classifier, int], None] | None = None,
    beside: Sequence[Stateful] = (),
) -> None:
    """Train ``model`` in place, inside the scope of the context, on ``batches(epoch)`` for epochs 1, 2, ….

    Each step minimises ``loss`` on one batch. ``after_step`` may correct the weights after a step, ``after_epoch`` may
    look at the model after an epoch. ``beside`` lists all other objects whose state changes during training. Raises
    Diverged for an epoch whose mean loss is not finite.

    A killed job continues after the last step that ``context.progress`` has saved and reaches the same bits. For this,
    ``batches(epoch)`` must depend on the epoch alone.
    """
    scopes.freeze(model, context.scope)
    optimizer = make_optimizer(model, settings)
    optimizer.zero_grad(set_to_none=True)
    run = Loop(context, (model, optimizer, *beside))
    with (
        torch.random.fork_rng(devices=[context.device] if context.device.type == "cuda" else []),
        context.progress.loop(),
    ):
        run.resume()
        for epoch in range(run.epoch, settings.epochs + 1):
            started = time.perf_counter() - run.seconds
            if not run.steps:
                torch.manual_seed(context.stream("dropout", epoch))
            scopes.train(model)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch)
            for batch in run.rest(batches(epoch)):
                with context.step(batch.role, len(batch.x)):
                    with context.autocast():
                        value = loss(model, batch)
                    value.backward()
                    optimizer.step()
                    if after_step:
                        after_step(model)
                    run.total += value.detach()
                    # No tensor outlives its step: the next step needs less memory, and as much in a resumed job.
                    optimizer.zero_grad(set_to_none=True)
                    del value
                run.steps += 1
                if context.progress.due:
                    run.keep(time.perf_counter() - started)
            record(context, settings, epoch, run.total.item() / max(run.steps, 1), time.perf_counter() - started)
            if after_epoch:
                after_epoch(model, epoch)
            run.next_epoch()
    model.eval()


class Loop:
    """The position of the training in its epochs, with everything that a killed job needs to continue from there."""

    def __init__(self, context: MethodContext, parts: Sequence[Stateful]):
        self.context, self.parts = context, parts
        self.name = context.progress.phase()
        self.epoch, self.steps, self.seconds = 1, 0, 0.0
        self.total = torch.zeros((), device=context.device)
        self.measured: dict[str, Any] | None = None

    def next_epoch(self) -> None:
        self.epoch, self.steps, self.seconds = self.epoch + 1, 0, 0.0
        self.total.zero_()

    def keep(self, seconds: float) -> None:
        """Save everything that the next step depends on. ``seconds``: the time spent in this epoch so far."""
        context = self.context
        state = {
            "at": [self.epoch, self.steps, seconds],
            "total": self.total,
            "parts": [part.state_dict() for part in self.parts],
            "history": context.history,
            "meter": context.meter.state_dict() if context.meter else None,
            "random": torch.get_rng_state(),
            "random on device": torch.cuda.get_rng_state(context.device) if context.device.type == "cuda" else None,
        }
        context.progress.save(self.name, state)

    def resume(self) -> None:
        """Continue from the saved state of a killed job, if there is one."""
        context, state = self.context, self.context.progress.load(self.name)
        if state is None:
            return
        self.epoch, self.steps, self.seconds = state["at"]
        self.total.copy_(state["total"])
        for part, kept in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(kept)
        context.history[:] = state["history"]
        self.measured = state["meter"]
        torch.set_rng_state(state["random"])
        if context.device.type == "cuda":
            torch.cuda.set_rng_state(state["random on device"], context.device)
        log.info("resumed in epoch %d after %d steps", self.epoch, self.steps)

    def rest(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of the epoch after those whose steps are done. A resumed job draws these again, uncounted."""
        for _ in range(self.steps):
            next(batches)
        if self.measured and self.context.meter:
            self.context.meter.load_state_dict(self.measured)
        self.measured = None
        yield from batches


def record(context: MethodContext, settings: Training, epoch: int, loss: float, seconds: float) -> None:
    """Add an epoch to the history and the log. Raises Diverged for a loss that is not finite."""
    if not math.isfinite(loss):
        raise Diverged(f"the loss is {loss} in epoch {epoch} at learning rate {learning_rate(settings, epoch):g}")
    context.history.append({"epoch": epoch, "loss": loss, "lr": learning_rate(settings, epoch), "seconds": seconds})
    log.info("epoch %d of %d: loss %.4f, %.2f s", epoch, settings.epochs, loss, seconds)


def make_optimizer(model: Classifier, settings: Training) -> torch.optim.Optimizer:
    """The optimiser of the trainable parameters. It does not know the frozen ones, so neither momentum nor weight decay
    changes them.

    The fused implementation takes half the time of the default one for small models on a CPU.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": True}
    match settings.optimizer:
        case "sgd":
            return torch.optim.SGD(trainable, momentum=settings.momentum, **common)
        case "adam":
            return torch.optim.Adam(trainable, **common)
        case "adamw":
            return torch.optim.AdamW(trainable, **common)


def learning_rate(settings: Training, epoch: int) -> float:
    """The learning rate of epoch 1, 2, …: a linear warm-up over ``warmup`` epochs, then constant or half a cosine."""
    if epoch <= settings.warmup:
        return settings.lr * epoch / (settings.warmup + 1)
    if settings.schedule == "constant":
        return settings.lr
    done = (epoch - 1 - settings.warmup) / max(settings.epochs - settings.warmup, 1)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
