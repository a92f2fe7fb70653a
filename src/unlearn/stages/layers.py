"""layers: what each scope of a study holds of each architecture.

A scope, an architecture or an augmentation that does not suit the images is refused here in seconds, and no model is
trained for a study that is refused.
"""

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from unlearn.config import scope_grammar
from unlearn.config.given import INIT
from unlearn.io import tables
from unlearn.io.schema.layers import LAYERS
from unlearn.models import classifier, images, scopes
from unlearn.models.classifier import Classifier, ModelError
from unlearn.models.device import prepare
from unlearn.models.normalization import normalization_layers
from unlearn.models.recognition import taken
from unlearn.models.scopes import ScopeError
from unlearn.models.weights import fill, start
from unlearn.run import ALL

log = logging.getLogger("unlearn")

SAMPLE = 2000  # images that show whether weights know the classes


@dataclass(frozen=True)
class LayersSettings:
    """``archs``: architecture → what its model is built from; ``scopes``: as the config writes them; ``data``: the name
    of the data set, and ``crop``: its zero padding in pixels; ``given``: of each file of weights of the user's its
    architecture, the key of the config, the path, and whether it is to be trusted."""

    archs: Mapping[str, dict[str, Any]]
    scopes: Sequence[str]
    data: str
    crop: int
    given: Sequence[Sequence[Any]] = field(default_factory=list)


def layers(dataset: str, out: str, settings: LayersSettings, device: str) -> None:
    """A row per architecture and scope: the parameters and layers inside, and their shares. A layer is a module with
    parameters of its own. Weights of the user's must fit.

    Raises ModelError or ScopeError naming the key of the config.
    """
    rows = list(held_by_all(dataset, settings, device))
    tables.write(LAYERS, out, {name: [row[name] for row in rows] for name in rows[0]}, {"settings": asdict(settings)})


def check(table: str, dataset: str, settings: LayersSettings, device: str) -> None:
    """What a job does before it trains: raise as ``layers`` does, unless its ``table`` says that these settings are
    good."""
    try:
        good = tables.metadata(table)["settings"] == asdict(settings)
    except tables.TableError:
        good = False
    if not good:
        deque(held_by_all(dataset, settings, device), maxlen=0)


def held_by_all(dataset: str, settings: LayersSettings, device: str) -> Iterator[dict[str, Any]]:
    """The rows of the table. Raises as ``layers`` does."""
    device = prepare(device)
    _, (_, height, width) = images.describe(dataset)
    if settings.crop >= min(height, width):
        key = f"settings.datasets.{settings.data}.augment.crop"
        raise ModelError(f"{key}: {settings.crop} leaves crops of nothing but padding, images are {height}x{width}")
    for arch, spec in settings.archs.items():
        try:
            model = classifier.create(images.model_spec(dataset, spec), 0).to(device)
            classifier.check(model)
        except ModelError as error:
            raise ModelError(f"settings.archs.{arch}: {error}") from error
        for key, path, trust in (given[1:] for given in settings.given if given[0] == arch):
            _check_weights(model, dataset, key, path, trust)
        if not normalization_layers(model):
            log.warning("%s: has no normalization layers, so no fairness-gap", arch)
        yield from ({"arch": arch, **row} for row in held(model, arch, settings.scopes))


def _check_weights(model: Classifier, dataset: str, key: str, path: str, trust: bool) -> None:
    """Raise ModelError unless weights of the user's fit and, those of the original, know the classes, by a sample of
    the training images. Those of models that have forgotten are judged with the split, when they are adopted."""
    if key.endswith(".weights"):
        names = images.describe(dataset)[0]
        sample = images.stratified(images.training_set(dataset), max(SAMPLE, 10 * len(names)), 0)
        taken(model, path, sample, names, key, trust)
        return
    try:
        (start if key.endswith(f".{INIT}") else fill)(model, path)
    except ModelError as error:
        raise ModelError(f"{key}: {error}") from None


def held(model: Classifier, arch: str, written: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the scopes of a config, and "all", hold of a model."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    weighted = scopes.layers(model)
    for number, scope in enumerate(dict.fromkeys([*written, ALL])):
        name = scope_grammar.name(scope)
        try:
            inside = scopes.members(model, name)
        except ScopeError as error:
            raise ScopeError(f"scopes.{number}: {scope!r}: {error} (settings.archs.{arch})") from None
        parameters = sum(size for parameter, size in sizes.items() if parameter in inside)
        count = sum(names <= inside for names in weighted)
        shares = {"parameter_share": parameters / sum(sizes.values()), "layer_share": count / len(weighted)}
        log.info("%s, %s: %d parameters (%.1f %%)", arch, name, parameters, 100 * shares["parameter_share"])
        yield {"scope": name, "parameters": parameters, "layers": count, **shares}
