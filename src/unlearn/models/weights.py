"""Files of weights that were made elsewhere: what they hold, and whether it fits a model."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unlearn.models.classifier import Classifier, ModelError, head

log = logging.getLogger("unlearn")

# Entries of checkpoints that hold the state, in the order in which they are looked for.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "model_state", "state_dict_ema", "model_ema", "ema")
# What DataParallel, torch.compile, Lightning and wrapping modules put before all names.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
SAVE = "save model.state_dict() alone"
SHOWN = 3  # names of each kind in a message


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a state that ``torch.save`` wrote, without the entry around it. The
    count of an averaged model is left out. No pickled code runs.

    Raises ModelError naming the file if it holds no such state.
    """
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such file")
    try:
        if Path(path).suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # those of torch, of safetensors, and of pickled data that is no state
        if "Weights only load failed" in str(error):
            raise ModelError(f"{path}: holds more than tensors, or is no file of weights; {SAVE}") from None
        raise ModelError(f"{path}: not a file of weights ({' '.join(str(error).split())})") from None
    state = {name: tensor for name, tensor in _state(found, path).items() if name != "n_averaged"}
    if bad := [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]:
        raise ModelError(f"{path}: {len(bad)} tensors are not finite, first {bad[0]}")
    return state


def _state(found: Any, path: str | Path) -> Mapping[str, Tensor]:
    if not isinstance(found, Mapping):
        raise ModelError(f"{path}: holds a {type(found).__name__}, must hold a state_dict")
    if found and all(isinstance(value, Tensor) for value in found.values()):
        return found
    held = [name for name in WRAPPERS if isinstance(found.get(name), Mapping)]
    if not held:
        names = ", ".join(map(str, list(found)[:SHOWN])) or "nothing"
        raise ModelError(f"{path}: holds no state_dict but {names}; known entries are {', '.join(WRAPPERS)}")
    log.info("%s: reading %s%s", path, held[0], "".join(f", not {name}" for name in held[1:]))
    return _state(found[held[0]], path)


def fill(model: Classifier, path: str | Path) -> None:
    """Give the model the weights of a file. Raises ModelError that counts what does not fit."""
    state = _named(model.net, read(path))
    _check(model.net, state, path)
    model.net.load_state_dict(state, strict=False)  # what may be missing is known


def start(model: Classifier, path: str | Path) -> bool:
    """As ``fill``, but a head of other classes, or no head, leaves the model's own. Returns whether the file has one
    that fits."""
    state, wanted = _named(model.net, read(path)), model.net.state_dict()
    last = next(name for name, module in model.net.named_modules() if module is head(model))
    own = [name for name in wanted if name.startswith(f"{last}." if last else "")]
    fits = all(name in state and state[name].shape == wanted[name].shape for name in own)
    if not fits:
        state = {**state, **{name: wanted[name] for name in own}}
        log.info("%s: %s starts afresh", path, last)
    _check(model.net, state, path)
    model.net.load_state_dict(state, strict=False)
    return fits


def _named(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state by the names of the module: of all ways to take prefixes off, the one under which most names fit."""
    return max(_stripped(state), key=lambda names: len(names.keys() & net.state_dict().keys()))


def _stripped(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The state, then that without the prefix of all names, and so on."""
    yield state
    prefix = next((p for p in PREFIXES if state and all(name.startswith(p) for name in state)), None)
    if prefix:
        yield from _stripped({name.removeprefix(prefix): tensor for name, tensor in state.items()})


def _check(net: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Batch norms of torch before 0.4.1 did not count their batches, and no result depends on that."""
    wanted = net.state_dict()
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    others = [name for name in wanted if name in state and wanted[name].shape != state[name].shape]
    problems = [
        ("missing", missing),
        ("unexpected", [name for name in state if name not in wanted]),
        ("of another shape", [f"{name} {_shape(state[name])}, must be {_shape(wanted[name])}" for name in others]),
    ]
    said = [f"{len(names)} {kind} ({'; '.join(_few(names))})" for kind, names in problems if names]
    if said:
        raise ModelError(f"{path}: does not fit the model: of {len(wanted)} tensors {', '.join(said)}")


def _few(names: list[str]) -> list[str]:
    return [*names[:SHOWN], *["…"] * (len(names) > SHOWN)]


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
