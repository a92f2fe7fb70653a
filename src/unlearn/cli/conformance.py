"""``unlearn test-plugin``: whether a plug-in is what its kind must be, and a method does what all methods must."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlearn.config import contracts, plugins
from unlearn.config.settings import ConfigError
from unlearn.models import scopes
from unlearn.models.classifier import Classifier, Spec, create
from unlearn.models.images import ImageSet
from unlearn.training.context import MethodContext

CLASSES, SHAPE = 4, (1, 8, 8)
NORMALIZE = {"mean": [0.5], "std": [0.5]}
NETS = {  # tiny networks, with batch norms and with layer norms
    "ResNet": Spec(
        "resnet18", CLASSES, SHAPE, {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}, "cifar", NORMALIZE
    ),
    "ViT": Spec(
        "vit_tiny_patch16_224",
        CLASSES,
        SHAPE,
        {"img_size": 8, "patch_size": 2, "embed_dim": 16, "depth": 3, "num_heads": 2},
        normalize=NORMALIZE,
    ),
}
SCOPES = ("all", "intermediate", "last")
SHORT = {"epochs": 2, "batch_size": 20, "forget_batch_size": 20}  # where a method has these settings
GOALS = ("max", "min", "match_retrain", "info")

Check = tuple[str, str]  # "ok", "note" or "FAILED", and what was checked, with what was found


class Broken(AssertionError):
    """A plug-in does what it must not; the message says what."""


class Unclear(Exception):
    """What these networks do not show of a plug-in; the message says what."""


def checked(file: str) -> Iterator[Check]:
    """The checks of a plug-in's file, by what they are about; a later one is left out where an earlier one failed that
    it needs. Raises ConfigError for a file that lies in no folder of a kind."""
    path = Path(file).absolute()
    kind = path.parent.name
    if kind not in plugins.KINDS or path.suffix != ".py":
        raise ConfigError(f"{file}: must be a file NAME.py in a folder named {', '.join(plugins.KINDS)}")
    if not path.is_file():
        raise ConfigError(f"{file}: no such file")
    if path.parent != plugins.ROOT / kind:
        plugins.use([str(path.parents[1])])
    for what, check in (("its declaration", _declared), ("it imports", _imported), *OF_KIND.get(kind, ())):
        mark, found = _result(check, kind, path.stem)
        yield mark, f"{what}: {found}" if found else what
        if mark == "FAILED" and check in (_declared, _imported):
            return


def _result(check: Callable[[str, str], None], kind: str, name: str) -> tuple[str, str]:
    try:
        check(kind, name)
    except Unclear as error:
        return "note", str(error)
    except (Broken, ConfigError) as error:
        return "FAILED", str(error)
    except Exception as error:  # of the plug-in
        return "FAILED", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return "ok", ""


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise Broken(problem)


# --- any plug-in ----------------------------------------------------------------------------------


def _declared(kind: str, name: str) -> None:
    doc = contracts.declaration(kind, name).doc
    _require(bool(doc), "has no docstring, whose first line is what lists show")
    _require("\n" not in doc.split("\n\n")[0], "the first paragraph of its docstring must be one line")


def _imported(kind: str, name: str) -> None:
    declared, module = contracts.declaration(kind, name), plugins.load(kind, name)
    contract = contracts.CONTRACTS[kind]
    for constant, value in declared.constants.items():
        if constant in {**contract.constants, **contract.optional} and value is not None:  # None: no literal
            _require(getattr(module, constant) == value, f"{constant} is another when the file has run")
    if declared.settings:
        fields = (
            {n: (f.annotation, f.default) for n, f in s.model_fields.items()}
            for s in (declared.settings, module.Settings)
        )
        _require(next(fields) == next(fields), "Settings are others when the file has run")


# --- metrics --------------------------------------------------------------------------------------


def _metrics(kind: str, name: str) -> None:
    declared = plugins.load(kind, name).METRICS
    _require(bool(declared), "METRICS is empty")
    for metric, about in declared.items():
        _require(about.goal in GOALS, f"the goal of {metric} is {about.goal!r}, must be one of {', '.join(GOALS)}")
        _require(bool(about.label), f"{metric} has no label")
    for other in plugins.names(kind):
        if other != name and (both := declared.keys() & plugins.load(kind, other).METRICS.keys()):
            raise Broken(f"{min(both)} is a metric of {other} too")


# --- methods --------------------------------------------------------------------------------------


def _changes_its_scope(kind: str, name: str) -> None:
    """And leaves a sound model, in evaluation mode, whose parameters outside the scope are frozen."""
    idle = []
    for net in NETS:
        for scope in SCOPES:
            model, before, _ = _unlearned(name, net, scope)
            after, where = model.state_dict(), f"on {scope} layers of the {net}"
            changed = {key for key in before if not torch.equal(before[key], after[key])}
            outside = sorted(changed - scopes.members(model, scope))
            _require(before.keys() == after.keys(), f"{where} it changes the names of the weights")
            _require(not outside, f"{where} it changes {len(outside)} tensors outside, first {(outside or [''])[0]}")
            _require(all(value.isfinite().all() for value in after.values()), f"{where} it leaves weights not finite")
            _require(not any(module.training for module in model.modules()), f"{where} it leaves training mode on")
            idle += [] if changed else [where]
    if idle:
        raise Unclear(f"{'; '.join(idle)} it changes nothing, which are networks that were not trained")


def _deterministic(kind: str, name: str) -> None:
    """Whatever ran before, which leaves the global random streams anywhere; and it leaves these as they are."""
    for net in NETS:
        states = []
        for noise in (1, 2):
            torch.manual_seed(noise)
            np.random.seed(noise)
            streams = torch.get_rng_state(), np.random.get_state()[1].copy()
            states.append(_unlearned(name, net)[0].state_dict())
            kept = torch.equal(torch.get_rng_state(), streams[0]) and (np.random.get_state()[1] == streams[1]).all()
            _require(kept, "it draws from the global random streams; context.generator(purpose, epoch) is its own")
        same = all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        _require(same, f"the {net} differs between two equal runs")


def _reads_its_roles(kind: str, name: str) -> None:
    """Asking for another stops it by itself."""
    context = _unlearned(name, "ViT")[2]
    unread = sorted({*context.data} - context.data.seen)
    _require(not unread, f"it declares the role {', '.join(unread)} in DATA_ROLES and does not read it")


def _leaves_the_data(kind: str, name: str) -> None:
    context = _unlearned(name, "ResNet")[2]
    for role, images in _sets(name, 12).items():
        kept = torch.equal(images.pixels, dict.__getitem__(context.data, role).pixels)
        _require(kept, f"it changes the {role} images that it was given")


def _forgets_one_image(kind: str, name: str) -> None:
    for net in NETS:
        model, *_ = _unlearned(name, net, forgotten=1)
        _require(all(v.isfinite().all() for v in model.state_dict().values()), f"the {net} has weights not finite")


class _Noted(dict):
    """Images by role that note which roles were asked for."""

    def __init__(self, data: dict[str, ImageSet]):
        super().__init__(data)
        self.seen: set[str] = set()

    def __getitem__(self, role: str) -> ImageSet:
        self.seen.add(role)
        return super().__getitem__(role)


def _unlearned(
    name: str, net: str, scope: str = "all", forgotten: int = 12
) -> tuple[Classifier, dict[str, Any], MethodContext]:
    """The model after the method, its state before, and the context."""
    method, spec = plugins.load("methods", name), NETS[net]
    if net == "ViT":  # random numbers of layers must be the method's too
        spec = replace(spec, args={**spec.args, "proj_drop_rate": 0.3})
    context = MethodContext(
        0, spec, _Noted(_sets(name, forgotten)), torch.device("cpu"), scope, {"crop": 1, "flip": True}
    )
    model = create(spec, seed=0).eval()
    before = copy.deepcopy(model.state_dict())
    known = method.Settings.model_fields
    method.unlearn(model, context, plugins.settings("methods", name, {k: v for k, v in SHORT.items() if k in known}))
    return model, before, context


def _sets(name: str, forgotten: int) -> dict[str, ImageSet]:
    """20 images to retain and some to forget, of the roles that a method declares; of a whole class where it is defined
    for nothing else."""
    method = plugins.load("methods", name)
    pixels = torch.randint(256, (32, *SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    images = ImageSet(torch.arange(32), pixels, torch.arange(32) % CLASSES)
    forget = torch.arange(32) >= 20
    if "random" not in getattr(method, "FORGET_KINDS", ("random",)):
        forget = images.labels == 0
    sets = {"retain": images.select(~forget), "forget": images.select(forget)}
    sets["forget"] = sets["forget"].select(torch.arange(len(sets["forget"])) < forgotten)
    return {role: sets[role] for role in method.DATA_ROLES}


OF_KIND: dict[str, tuple[tuple[str, Callable[[str, str], None]], ...]] = {
    "metrics": (("its metrics have goals and names of their own", _metrics),),
    "methods": (
        ("it changes its scope and nothing else", _changes_its_scope),
        ("it is deterministic", _deterministic),
        ("it reads the roles that it declares", _reads_its_roles),
        ("it leaves the images as they are", _leaves_the_data),
        ("it forgets one image", _forgets_one_image),
    ),
}
