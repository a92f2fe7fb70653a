"""From a request to the call of its stage: log, threads, device, lock, record.

Nothing here is part of a result, so an edit remakes nothing. What a stage computes depends on its arguments alone.
"""

import dataclasses
import importlib
import inspect
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import unlearn
from unlearn.config import plugins
from unlearn.fingerprint import Sources
from unlearn.io import failures, metadata
from unlearn.io.progress import Progress
from unlearn.provenance import records
from unlearn.runtime import gpus

TERMINAL_INTERVAL = 10.0  # seconds between progress lines of one job on the terminal
PACKAGE = Path(unlearn.__file__).parent
log = logging.getLogger("unlearn")


def run(request: dict[str, Any]) -> int:
    """Run a request in this process and return the exit status. A failure is one line on the terminal and in the
    log; the log also has the traceback of an error that this project did not raise."""
    signal.signal(signal.SIGTERM, _terminate)
    _start_logging(request["log"])
    try:
        if request["code"]:
            Sources().verify(request["code"])
        stage = _stage(request["stage"])
        arguments = request["arguments"]
        if "device" in inspect.signature(stage).parameters:
            arguments["device"] = _prepare(request["device"], request["threads"])
            _look_ahead(stage, request)
        with records.entry(request) as inputs:
            try:
                _call(stage, request, inputs)
            except failures.RunFailed as error:
                if not failures.tolerable(arguments):
                    raise
                log.error("%s: this run is left out: %s", request["outputs"][0], error)
                for path in request["outputs"]:
                    failures.write(path, arguments["run"], str(error))
    except Exception as error:
        if not _ours(error) or error.__cause__:
            log.debug("%s", traceback.format_exc())
        log.error("%s (%s)", explained(error), request["log"])
        return 1
    return 0


def _stage(module: str) -> Any:
    """The function of a stage, which has the name of its module."""
    return getattr(importlib.import_module(module), module.rpartition(".")[2])


def _look_ahead(stage: Any, request: dict[str, Any]) -> None:
    """Before a job trains: raise for a scope or an architecture of its study that cannot be, be it another job's."""
    from unlearn.stages import layers
    from unlearn.training.artifacts import TrainingSettings

    study, kind = request.get("layers"), get_type_hints(stage).get("settings")
    if study and isinstance(kind, type) and issubclass(kind, TrainingSettings):
        settings = layers.LayersSettings(**study["settings"])
        layers.check(study["table"], request["files"]["dataset"], settings, request["arguments"]["device"])


def _call(stage: Any, request: dict[str, Any], inputs: dict[str, str]) -> None:
    """Call the stage. One that takes ``progress`` continues from what the same job saved before it was killed."""
    arguments = typed(stage, {**request["arguments"], **request["files"]})
    if "progress" not in inspect.signature(stage).parameters:
        stage(**arguments)
        return
    same = [request[key] for key in ("code", "arguments", "threads")]
    identity = metadata.digest([*same, inputs, metadata.record()["libraries"]])
    folder = records.record_of(request["outputs"][0]).with_suffix(".progress")
    progress = Progress(folder, identity, request["checkpoint_seconds"])
    stage(**arguments, progress=progress)
    progress.clear()


def typed(stage: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the stage declares them: a mapping becomes the dataclass that annotates its parameter."""
    declared = {name: hint for name, hint in get_type_hints(stage).items() if dataclasses.is_dataclass(hint)}
    return {n: declared[n](**v) if n in declared and isinstance(v, Mapping) else v for n, v in arguments.items()}


def explained(error: Exception) -> str:
    """An error in one line; if this project did not raise it, with the line of the source."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    roots = [PACKAGE, *(place for kind in plugins.KINDS for place in plugins.places(kind)[1:])]
    places = [(path, line) for path, line in frames if any(map(path.is_relative_to, roots)) and path != Path(__file__)]
    if _ours(error) or not places:
        return text
    path, line = places[-1]
    return f"{text}, at {path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path}, line {line}"


def _ours(error: Exception) -> bool:
    """Whether this project raised it, with a message that says what the user can mend."""
    return type(error).__module__.split(".")[0] == "unlearn"


def _terminate(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _prepare(wanted: str, threads: int) -> str:
    """The device's name, with this process on the GPU that has the fewest jobs. Raises DeviceError."""
    import torch

    from unlearn.models.device import prepare

    torch.set_num_threads(threads)
    device = prepare(wanted).type
    if device == "cuda":
        gpus.take()
    return device


def _start_logging(path: str) -> None:
    """Write everything to the log file, and errors and sparse progress to the terminal."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, mode="w")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    terminal = logging.StreamHandler(os.fdopen(os.dup(2), "w"))
    terminal.setFormatter(logging.Formatter(f"  {Path(path).stem}: %(message)s"))
    terminal.addFilter(_Sparse())
    log.handlers[:] = [file, terminal]
    log.setLevel(logging.DEBUG)
    log.propagate = False
    # What libraries print belongs in the log, not between Snakemake's lines.
    sys.stdout.flush()
    sys.stderr.flush()
    for number in (1, 2):
        os.dup2(file.stream.fileno(), number)


class _Sparse(logging.Filter):
    """Lets errors pass, and progress at most once per interval, never in the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    def filter(self, entry: logging.LogRecord) -> bool:
        if entry.levelno >= logging.ERROR:
            return True
        if entry.levelno < logging.INFO or time.monotonic() - self.last < TERMINAL_INTERVAL:
            return False
        self.last = time.monotonic()
        return True
