"""Where a job becomes a call: picks the process, sets up logging, threads and device, and calls.

A script states *what* runs; whether that is this process or a warm one is decided here.
"""

import importlib
import inspect
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from unlearn import cards, failures, ledger, provenance, warm
from unlearn.progress import Progress
from unlearn.sources import Sources

TERMINAL_INTERVAL = 10.0  # seconds between progress lines of one job on the terminal
log = logging.getLogger("unlearn")


class DeviceError(RuntimeError):
    """A device that this machine does not have."""


def launch(target: str, snakemake: Any, *, kind: str = "torch", **arguments: Any) -> None:
    """Call ``target`` ("unlearn.stages.attack:attack") for a script's ``snakemake`` and exit on failure.

    The job's named inputs and outputs reach the target as keywords, beside ``arguments``, which hold what
    a job without that input gets; an input without a name is only depended on. An argument ``device``
    of "auto" becomes the device. ``kind`` names the libraries that are needed (``unlearn.warm.PRELOAD``).
    """
    request = {
        "target": target,
        "arguments": arguments,
        "files": {**snakemake.input, **snakemake.output},
        "inputs": list(snakemake.input),
        "outputs": list(snakemake.output),
        "log": snakemake.log[0],
        "code": snakemake.params.code,
        "threads": snakemake.threads,
        "checkpoint_seconds": snakemake.config["checkpoint_seconds"],
    }
    status = warm.call(kind, request) if os.environ.get(warm.OWNER) else serve(request)
    if status == warm.KILLED:
        print(f"{request['log']}: the process was killed (out of memory?)", file=sys.stderr)
    if status:
        sys.exit(status)


def serve(request: dict[str, Any]) -> int:
    """Run a request in this process. Returns the exit status. A failure is one line on the terminal and in
    the log; where it is not this project's own, the log has its traceback too."""
    signal.signal(signal.SIGTERM, _terminate)
    _start_logging(request["log"])
    arguments = request["arguments"]
    try:
        _check_sources(request["code"])
        if "device" in arguments:
            arguments["device"] = prepare(arguments["device"], request["threads"])
        with ledger.entry(request) as inputs:
            try:
                _call(request, inputs)
            except failures.RunFailed as error:
                if not failures.tolerable(request["arguments"]):
                    raise
                log.error("%s: this run is left out: %s", request["outputs"][0], error)
                for path in request["outputs"]:
                    failures.mark(path, request["arguments"]["run"], str(error))
    except Exception as error:
        if not _ours(error) or error.__cause__:
            log.debug("%s", traceback.format_exc())
        log.error("%s (%s)", explained(error), request["log"])
        return 1
    return 0


def _call(request: dict[str, Any], inputs: dict[str, str]) -> None:
    """Call the stage; one that takes ``progress`` goes on from what the same job kept when it was killed."""
    module, name = request["target"].split(":")
    function = getattr(importlib.import_module(module), name)
    arguments = {**request["arguments"], **request["files"]}
    if "progress" not in inspect.signature(function).parameters:
        function(**arguments)
        return
    same = [request[key] for key in ("target", "code", "arguments", "threads")]
    identity = provenance.digest([*same, inputs, provenance.record()["libraries"]])
    folder = ledger.record_of(request["outputs"][0]).with_suffix(".progress")
    progress = Progress(folder, identity, request["checkpoint_seconds"])
    function(**arguments, progress=progress)
    progress.clear()


def explained(error: Exception) -> str:
    """An error in one line; one that is not of this project's own kinds with the line of its sources."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    here = Path(__file__)
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    places = [(path, line) for path, line in frames if path.is_relative_to(here.parent) and path != here]
    if _ours(error) or not places:
        return text
    path, line = places[-1]
    return f"{text}, at {path.relative_to(here.parent)}, line {line}"


def _ours(error: Exception) -> bool:
    """Whether this project raised it, and its message says what the user can mend."""
    return type(error).__module__.split(".")[0] == "unlearn"


def _terminate(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _check_sources(code: str) -> None:
    root = Path(__file__).resolve().parents[2]
    if code:
        Sources(root / "src", root / "workflow" / "scripts").verify(code)


def prepare(wanted: str, threads: int) -> str:
    """The device for ``wanted`` (auto, cuda or cpu), with torch set up for it: of several cards CUDA's current one
    is that of the fewest jobs. Raises DeviceError without one."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # CUDA's default rounds a convolution's inputs to 10 bits (TF32)
    torch.backends.cudnn.deterministic = True
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("device: cuda, but this machine has no CUDA device")
        cards.take()
    return wanted


def _start_logging(path: str) -> None:
    """Everything to the log file; errors, and now and then progress, to the terminal too."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, mode="w")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    terminal = logging.StreamHandler(os.fdopen(os.dup(2), "w"))
    terminal.setFormatter(logging.Formatter(f"  {Path(path).stem}: %(message)s"))
    terminal.addFilter(_Sparse())
    log.handlers[:] = [file, terminal]
    log.setLevel(logging.DEBUG)
    log.propagate = False
    # Whatever libraries print belongs into the log, not between Snakemake's lines.
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
