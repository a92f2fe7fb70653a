"""Classifiers: a timm model behind its own normalization, from pixels in [0, 1] to logits."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearn.config.given import local


class ModelError(ValueError):
    """A model that cannot be built as the config asks."""


@dataclass(frozen=True)
class Spec:
    """All that is needed to build a classifier. It is stored in the header of the classifier's weights.

    ``model`` and ``args`` go to ``timm.create_model``, or ``model`` is FILE.py:FUNCTION and ``digest`` the sha256 of
    the file; ``shape`` is that of an image (C, H, W); ``stem`` is "native" or "cifar"; ``normalize`` has a mean and a
    standard deviation for each channel, or one for all; ``groups``: beginnings of the names of parameters, by group
    from stem to head, in place of timm's.
    """

    model: str
    classes: int
    shape: tuple[int, int, int]
    args: dict[str, Any] = field(default_factory=dict)
    stem: str = "native"
    normalize: dict[str, list[float]] = field(default_factory=lambda: {"mean": [0.5], "std": [0.5]})
    groups: list[list[str]] | None = None
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Spec":
        return cls(**{**value, "shape": tuple(value["shape"])})


class Classifier(nn.Module):
    """``net`` on normalized input. The constants of normalization come from the spec and are not in the state."""

    def __init__(self, net: nn.Module, spec: Spec):
        super().__init__()
        self.net, self.spec = net, spec
        channels = spec.shape[0]
        for name in ("mean", "std"):
            values = torch.tensor(spec.normalize[name], dtype=torch.float32)
            if len(values) not in (1, channels):
                raise ModelError(f"normalize.{name}: {len(values)} numbers for images of {channels} channels")
            self.register_buffer(name, values.view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` float [B, C, H, W] in [0, 1] → logits float [B, classes]. A batch of one image has no statistics to be
        normalized by: batch norms use their running ones, and keep them."""
        with held_statistics(self.net) if len(x) == 1 else nullcontext():
            return self.net((x - self.mean) / self.std)


@contextmanager
def held_statistics(model: nn.Module) -> Iterator[None]:
    """A context in which every batch norm uses its running statistics and leaves them as they are."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for module in norms:
        module.training = False
    try:
        yield
    finally:
        for module in norms:
            module.training = True


def create(spec: Spec, seed: int) -> Classifier:
    """A freshly initialised classifier; the initialisation depends on ``seed`` alone.

    Raises ModelError for an unknown model, for arguments that do not fit it, and for a file of code that is not the
    one of the spec's digest.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if found := local(spec.model):
            net, spec = _from_file(*found, spec)
        else:
            net = _from_timm(spec)
        if spec.stem == "cifar":
            _cifar_stem(net, spec)
    return Classifier(net, spec)


def _from_timm(spec: Spec) -> nn.Module:
    import timm

    if spec.model.startswith("smallvit"):
        import unlearn.models.smallvit  # noqa: F401 (registers it)
    if not timm.is_model(spec.model):
        raise ModelError(f"model {spec.model!r} is neither timm's nor smallvit")
    try:
        return timm.create_model(spec.model, num_classes=spec.classes, in_chans=spec.shape[0], **spec.args)
    except Exception as error:  # timm passes on all that its models raise
        raise ModelError(f"model {spec.model!r} with args {spec.args}: {error}") from error


def _from_file(file: str, function: str, spec: Spec) -> tuple[nn.Module, Spec]:
    """The module that a user's function gives, and the spec with the digest of its file."""
    try:
        source = Path(file).read_bytes()
    except OSError as error:
        raise ModelError(f"model {spec.model!r}: {error}") from None
    digest = hashlib.sha256(source).hexdigest()
    if spec.digest not in ("", digest):
        raise ModelError(f"model {spec.model!r}: the file has changed since these weights were made")
    name = f"model_{digest[:16]}"
    try:
        if name not in sys.modules:
            declared = spec_from_file_location(name, file)
            module = module_from_spec(declared)
            exec(compile(source, file, "exec"), vars(module))  # what was digested, and leaves no cache beside it
            sys.modules[name] = module
        build = getattr(sys.modules[name], function)
        net = build(num_classes=spec.classes, in_chans=spec.shape[0], **spec.args)
    except Exception as error:
        raise ModelError(f"model {spec.model!r} with args {spec.args}: {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise ModelError(f"model {spec.model!r} gives a {type(net).__name__}, must give a torch.nn.Module")
    return net, replace(spec, digest=digest)


def check(model: Classifier) -> None:
    """Raise ModelError unless the model turns images of its shape into one logit per class."""
    training = model.training
    images = torch.zeros(2, *model.spec.shape, device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            logits = model.eval()(images)
    except Exception as error:
        raise ModelError(
            f"model {model.spec.model!r} does not take images of shape {model.spec.shape}: {error}"
        ) from error
    finally:
        model.train(training)
    wanted = (2, model.spec.classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"model {model.spec.model!r} gives {given} for two images, must give {wanted}")


def _cifar_stem(net: nn.Module, spec: Spec) -> None:
    """Replace the stem for small images: a 3x3 convolution of stride 1 and no pooling (He et al. 2016, §4.2)."""
    if not (hasattr(net, "conv1") and hasattr(net, "bn1") and hasattr(net, "maxpool")):
        raise ModelError(f"stem: cifar needs a ResNet (conv1, bn1, maxpool), {spec.model!r} is none")
    net.conv1 = nn.Conv2d(spec.shape[0], net.bn1.num_features, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()


def head(model: Classifier) -> nn.Linear | nn.Conv2d:
    """The layer that computes the logits: linear, or a convolution in a fully convolutional model.

    timm's ``get_classifier`` returns this layer or a module around it. Raises ModelError for a model without such a
    layer, and for a model with several, such as a distilled transformer.
    """
    part = model.net.get_classifier() if hasattr(model.net, "get_classifier") else model.net
    layers = [m for m in part.modules() if width(m) == model.spec.classes] if isinstance(part, nn.Module) else []
    if not layers:
        raise ModelError(f"model {model.spec.model!r} has no single last layer of {model.spec.classes} outputs")
    return layers[-1]


def width(module: nn.Module) -> int | None:
    """Number of outputs of a linear or convolutional layer, None for any other module."""
    match module:
        case nn.Linear():
            return module.out_features
        case nn.Conv2d(groups=1):
            return module.out_channels
