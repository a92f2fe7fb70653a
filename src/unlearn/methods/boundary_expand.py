"""BE, boundary expanding: teach the forget set a class of its own, then take the class away.

Chen et al. 2023, "Boundary Unlearning" (arXiv:2303.11570). The classifier gets one more
output, the shadow class; the model is fine-tuned on the forget set, all of it labelled with that
class; the extra output is removed. SalUn's port leaves it in, and evaluates over C + 1 classes.

The shadow output is a layer of its own beside the last one, joined to it by a forward hook: the
model's parameters keep their names, shapes and scope, a last layer outside the scope stays bit for
bit, and the shadow output trains in any case, by an optimiser of its own with the same settings.
It starts as in the original code: Xavier-normal for a layer of C + 1 outputs, bias 0. Settings are
those of boundary shrink here; the original trains with batch 64 and no weight decay.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from unlearn.api.methods import (
    Batch,
    Classifier,
    MethodContext,
    ModelError,
    NonNegative,
    Training,
    dataclass,
    fit,
    head,
    learning_rate,
    make_optimizer,
    to_float,
)

DATA_ROLES = ("forget",)
TUNING_GRID = {
    "sgd": {"lr": (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)},
    "adaptive": {"lr": (0.000003, 0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003)},
}


@dataclass(frozen=True)
class Settings(Training):
    lr: NonNegative = 1e-5


def unlearn(model: Classifier, context: MethodContext, settings: Settings) -> None:
    """Minimise the cross-entropy of the forget set to the shadow class, then drop the class."""
    shadow = shadow_of(head(model), context.generator("shadow")).to(context.device)
    optimizer = make_optimizer(shadow, settings)

    def relabelled(epoch: int) -> Iterator[Batch]:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, epoch)
        for batch in context.batches("forget", epoch, settings.batch_size):
            yield batch._replace(y=torch.full_like(batch.y, context.spec.classes))

    def train_shadow(_: Classifier) -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with widened(model, shadow):
        check(model, to_float(context.images("forget").pixels[:1]))
        fit(model, settings, context, relabelled, after_step=train_shadow, beside=(shadow, optimizer))


def shadow_of(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> nn.Linear | nn.Conv2d:
    """A layer like ``layer`` with one output."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        shadow = nn.utils.skip_init(nn.Linear, layer.in_features, 1, bias)
    else:
        geometry = layer.kernel_size, layer.stride, layer.padding, layer.dilation, 1, bias, layer.padding_mode
        shadow = nn.utils.skip_init(nn.Conv2d, layer.in_channels, 1, *geometry)
    with torch.no_grad():
        rows = torch.empty(len(layer.weight) + 1, *layer.weight.shape[1:])
        shadow.weight.copy_(nn.init.xavier_normal_(rows, generator=generator)[-1:])
        if bias:
            shadow.bias.zero_()
    return shadow


@contextmanager
def widened(model: Classifier, shadow: nn.Module) -> Iterator[None]:
    """Let the model's last layer give one more output, that of ``shadow``."""

    def append(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return torch.cat([output, shadow(inputs[0])], -1 if isinstance(layer, nn.Linear) else 1)

    handle = head(model).register_forward_hook(append)
    try:
        yield
    finally:
        handle.remove()


def check(model: Classifier, x: torch.Tensor) -> None:
    """Raise ModelError unless the extra output of the last layer is one of the model's logits."""
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(x).shape)
    except RuntimeError as error:
        raise ModelError(f"model {model.spec.model!r} cannot be given one more class: {error}") from error
    if shape != (len(x), model.spec.classes + 1):
        raise ModelError(f"model {model.spec.model!r} cannot be given one more class: its output stays {shape}")
