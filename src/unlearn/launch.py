"""Where a job becomes a call: picks the process, sets up logging, threads and device, and calls.

A script states *what* runs; whether that is this process or a warm one is decided here.
"""

import importlib
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from unlearn import warm
from unlearn.sources import Sources

TERMINAL_INTERVAL = 10.0  # seconds between progress lines of one job on the terminal
log = logging.getLogger("unlearn")


def launch(target: str, *, logfile: str, code: str, threads: int = 1, kind: str = "torch", **arguments: Any) -> None:
    """Call ``target`` ("unlearn.stages.attack:attack") with ``arguments`` and exit on failure.

    ``kind`` names the libraries it needs (``unlearn.warm.PRELOAD``), ``code`` is the fingerprint of
    the sources that the job was planned with; an argument ``device`` of "auto" becomes the device.
    """
    request = {"target": target, "arguments": arguments, "log": logfile, "code": code, "threads": threads}
    status = warm.call(kind, request) if os.environ.get(warm.OWNER) else serve(request)
    if status == warm.KILLED:
        print(f"{logfile}: the process was killed (out of memory?)", file=sys.stderr)
    if status:
        sys.exit(status)


def serve(request: dict[str, Any]) -> int:
    """Run a request in this process. Returns the exit status; a failure's reason is in its log."""
    signal.signal(signal.SIGTERM, _terminate)
    _start_logging(request["log"])
    arguments = request["arguments"]
    try:
        _check_sources(request["code"])
        os.environ["UNLEARN_CODE"] = request["code"]
        if "device" in arguments:
            arguments["device"] = _device(arguments["device"], request["threads"])
        module, function = request["target"].split(":")
        getattr(importlib.import_module(module), function)(**arguments)
    except Exception as error:
        log.debug("%s", traceback.format_exc())
        log.error("%s: %s (%s)", type(error).__name__, error, request["log"])
        return 1
    return 0


def _terminate(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _check_sources(code: str) -> None:
    root = Path(__file__).resolve().parents[2]
    if code:
        Sources(root / "src", root / "workflow" / "scripts").verify(code)


def _device(wanted: str, threads: int) -> str:
    import torch

    torch.set_num_threads(threads)
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device: cuda, but this machine has no CUDA device")
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
