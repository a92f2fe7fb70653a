"""A model's features at every layer group: what it knows, before its head decides what to say.

Layers are timm's groups (``models.scopes.groups``), each by the output of the outermost module that lies wholly inside
the group and runs last, so that what a layer scope changes can be read off its own layers. The last group, with the
head, is represented by the penultimate features: the input of the layer that computes the logits. Features are averaged
over positions; where a network pools by the mean, the last group before the head equals the penultimate features.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from unlearn.evaluation.activations import by_image
from unlearn.models.classifier import Classifier, head
from unlearn.models.images import ImageSet, to_float
from unlearn.models.scopes import groups

PENULTIMATE = "penultimate"
TRIED = 7  # images; a table of position biases, of 12 heads or 16 × 16 offsets, is no multiple of it


class FeatureError(ValueError):
    """A model whose features cannot be told from its modules, or are no numbers."""


@torch.no_grad()
def layer_features(model: Classifier, images: ImageSet, batch_size: int = 256) -> dict[str, np.ndarray]:
    """Layer → features float32 [images, width], in order of depth: "group 0" (the stem), …, "penultimate".

    The model is in evaluation mode. Raises FeatureError for a group without a module that runs, for outputs whose
    channels cannot be told, and for features that are not finite.
    """
    model.eval()
    square, last = model.spec.shape[1] == model.spec.shape[2], getattr(model.net, "output_fmt", "NCHW") == "NHWC"
    now: dict[str, Tensor] = {}  # of the present batch; where a module runs twice, its last output counts
    count = 0

    def of_group(layer: str) -> Callable:
        def keep(module: nn.Module, inputs: tuple, output: Tensor | Sequence[Tensor]) -> None:
            maps = [output] if isinstance(output, Tensor) else output  # HRNet's stages give a map per resolution
            means = [average(x, channels_last(x, square, last, layer), count, layer) for x in maps]
            now[layer] = torch.cat(means, dim=1)

        return keep

    def before_head(module: nn.Module, inputs: tuple) -> None:
        now[PENULTIMATE] = average(inputs[0], isinstance(module, nn.Linear), count, PENULTIMATE)

    handles = [module.register_forward_hook(of_group(layer)) for layer, module in ends(model).items()]
    handles.append(head(model).register_forward_pre_hook(before_head))
    batches = []
    try:
        for pixels in images.pixels.split(batch_size):
            count = len(pixels)
            model(to_float(pixels))
            batches.append({layer: x.float().cpu().numpy() for layer, x in now.items()})
    finally:
        for handle in handles:
            handle.remove()
    found = {layer: np.concatenate([batch[layer] for batch in batches]) for layer in batches[0]}
    if wrong := [layer for layer, x in found.items() if not np.isfinite(x).all()]:
        raise FeatureError(f"features of layer {wrong[0]!r} are not finite")
    return found


def ends(model: Classifier) -> dict[str, nn.Module]:
    """Layer → the module whose output stands for the group: the last one to finish of those wholly inside it. A module
    finishes after its children, so it is the outermost one too. Pooling and dropout before the head have no weights and
    are in no group of their own, so a module without weights ends a group only where there are positions left.

    Raises FeatureError for a group without such a module.
    """
    group = groups(model)
    inside: dict[nn.Module, tuple[int, bool]] = {}
    for name, module in model.named_modules():
        state = module.state_dict()
        numbers = {group.get(f"{name}.{key}") for key in state} or {group.get(name)}
        if len(numbers) == 1 and None not in numbers:
            inside[module] = numbers.pop(), bool(state)
    ended: dict[int, nn.Module] = {}
    tail = max(group.values())

    def note(module: nn.Module, inputs: tuple, output: Tensor | Sequence[Tensor]) -> None:
        tensors = [output] if isinstance(output, Tensor) else output if isinstance(output, list | tuple) else []
        number, weights = inside[module]
        of_images = bool(tensors) and all(
            isinstance(x, Tensor) and x.ndim > 1 and not len(x) % TRIED and (weights or x[0, 0].numel() > 1)
            for x in tensors
        )
        # A module that runs once more, or late, ends no group once a later one has ended.
        if of_images and number >= max(ended, default=0):
            ended[number] = module

    handles = [module.register_forward_hook(note) for module, (number, _) in inside.items() if number < tail]
    try:
        model(torch.zeros(TRIED, *model.spec.shape, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    if missing := set(range(tail)) - ended.keys():
        raise FeatureError(f"model {model.spec.model!r}: no module of group {min(missing)} runs by itself")
    return {f"group {number}": ended[number] for number in sorted(ended)}


def channels_last(x: Tensor, square: bool, last: bool, layer: str) -> bool:
    """Whether the channels of a module's output are its last dimension, and not dimension 1.

    They are in [B, C] and in tokens [B, N, C]. Maps of ``square`` images are square, which tells [B, H, W, C] from
    [B, C, H, W] (timm's VOLO does not say); else ``last`` decides, the format that the model names. Raises FeatureError
    for other shapes.
    """
    if x.ndim in (2, 3):
        return True
    if x.ndim != 4:
        raise FeatureError(f"layer {layer!r} gives {tuple(x.shape)}: which of them are channels?")
    _, first, second, third = x.shape
    if square and (first == second) != (second == third):
        return first == second
    return last


def average(x: Tensor, last: bool, count: int, layer: str) -> Tensor:
    """Mean over positions as float32 [images, channels]; channels are the ``last`` dimension, or dimension 1. Raises
    ProbeError for a batch that is no multiple of the images (``activations.by_image``)."""
    x = x if last else x.movedim(1, -1)
    return by_image(x.reshape(len(x), -1, x.shape[-1]), count, layer).float().mean(1)
