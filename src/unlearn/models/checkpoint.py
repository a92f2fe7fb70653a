"""Weights on disk: safetensors files whose header holds the spec of the model and its provenance. No pickle."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unlearn.io import failures, files
from unlearn.io.metadata import record
from unlearn.models.classifier import Classifier, ModelError, Spec, create

FORMAT = "unlearn-1"
SNAPSHOTS = "unlearn-snapshots-1"


class CheckpointError(ValueError):
    """A weights file that cannot be used; the message names it."""


def save(model: Classifier, path: str | Path, more: dict[str, Any]) -> None:
    """Write the state of ``model`` atomically. Raises RunFailed for non-finite weights."""
    path = Path(path)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if bad := [n for n, t in state.items() if t.is_floating_point() and not t.isfinite().all()]:
        raise failures.RunFailed(f"{len(bad)} tensors of weights are not finite, first {bad[0]}")
    header = {"spec": json.dumps(model.spec.to_json()), "unlearn": json.dumps(record(**more), sort_keys=True)}
    _write(state, path, {"format": FORMAT, **header})


def save_snapshots(states: Mapping[int, Mapping[str, Tensor]], path: str | Path) -> None:
    """Write the states of a model by epoch into one file, atomically. There may be no states."""
    flat = {f"{epoch}/{name}": tensor for epoch, state in states.items() for name, tensor in state.items()}
    _write(flat, Path(path), {"format": SNAPSHOTS, "epochs": json.dumps(sorted(states))})


def snapshots(path: str | Path) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield (epoch, state) in the order of epochs. Raises CheckpointError for a missing or foreign file."""
    epochs = json.loads(_header(path, SNAPSHOTS)["epochs"])
    with safe_open(path, "pt") as file:
        for epoch in epochs:
            prefix = f"{epoch}/"
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (no mapping)
            yield epoch, {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def _write(tensors: dict[str, Tensor], path: Path, header: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as part:
        save_file(tensors, part, metadata=header)


def load(path: str | Path, device: str | torch.device = "cpu") -> Classifier:
    """The classifier in a weights file, in evaluation mode.

    Raises RunFailed for the file of a failed run, and CheckpointError for a missing file, a foreign file, or weights
    that do not fit their spec.
    """
    header = metadata(path)
    try:
        spec = Spec.from_json(header["spec"])
        model = create(spec, seed=0)
        model.load_state_dict(state(path), strict=True)
    except (ModelError, RuntimeError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return model.to(device).eval()


def state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name. Raises CheckpointError for a missing or foreign file."""
    _header(path, FORMAT)
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def metadata(path: str | Path) -> dict[str, Any]:
    """``spec`` and what was given to ``save``. Raises CheckpointError for a missing or foreign file."""
    header = _header(path, FORMAT)
    try:
        return {"spec": json.loads(header["spec"]), **json.loads(header["unlearn"])}
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its header cannot be read ({error})") from None


def _header(path: str | Path, wanted: str) -> dict[str, str]:
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from None
    failures.check(header)
    if header.get("format") != wanted:
        raise CheckpointError(f"{path}: not a weights file of this project")
    return header


def fresh(model: Classifier, seed: int) -> Classifier:
    """A newly initialised classifier of the same spec, on the same device."""
    return create(model.spec, seed).to(next(model.parameters()).device)
