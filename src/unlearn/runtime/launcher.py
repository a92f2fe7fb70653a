"""From a job of the workflow to a request, and from the request to a fork server or to a process of its own.

A workflow process has one fork server for jobs that run models and one for jobs on tables. A job starts the one it
needs if it is the first. Imports are few here, because each job pays for them.
"""

import ast
import atexit
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from unlearn.provenance import records
from unlearn.runtime.folders import private, temporary
from unlearn.runtime.fork_server import PRELOAD

OWNER = "UNLEARN_FORK_SERVER_OWNER"  # pid of the workflow process; unset: each job runs in a process of its own
START_TIMEOUT = 600  # the first import from a network file system takes minutes
LONGEST_ADDRESS = 103  # bytes of a socket's path on macOS; 107 on Linux
KILLED = 137  # exit status of a child that ended without an answer


class Unavailable(RuntimeError):
    """There is no fork server, and none can be started; the message says why."""


def offer() -> None:
    """Let the jobs that this process starts use fork servers, unless TMPDIR is too long for the address of one."""
    folders = [temporary(f"{os.getpid()}-{kind}") for kind in PRELOAD]
    if any(len(os.fsencode(_address(folder))) > LONGEST_ADDRESS for folder in folders):
        print(
            f"{folders[0].parent}: a shorter TMPDIR would allow fork servers; now each job takes seconds to load its "
            "libraries",
            file=sys.stderr,
        )
        return
    os.environ[OWNER] = str(os.getpid())
    for folder in folders:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def launch(snakemake: Any) -> None:
    """Run the stage of a job, and exit with its status on failure.

    The stage is the first module that ``params.code`` names, after the digest. Its keywords are the job's other
    params but ``sources``, its named inputs and its outputs; an input without a name only has to exist. A stage that
    runs models also gets the config's ``device``, or "cpu" if it reads nothing: such a job may run where there is no
    GPU.
    """
    request = {
        **records.asked(dict(snakemake.params.items())),
        "device": snakemake.config["device"] if snakemake.input else "cpu",
        "files": {**snakemake.input, **snakemake.output},
        "inputs": list(snakemake.input),
        "outputs": list(snakemake.output),
        "log": snakemake.log[0],
        "threads": snakemake.threads,
        "checkpoint_seconds": snakemake.config["checkpoint_seconds"],
        "layers": snakemake.config.get("layers"),
    }
    status = _status(request)
    if status == KILLED:
        print(f"{request['log']}: the process was killed (out of memory?)", file=sys.stderr)
    if status:
        sys.exit(status)


def _status(request: dict[str, Any]) -> int:
    if os.environ.get(OWNER):
        try:
            return call(request)
        except Unavailable as error:
            print(f"{request['log']}: runs without a fork server: {error}", file=sys.stderr)
    from unlearn.runtime.runner import run

    return run(request)


def call(request: dict[str, Any]) -> int:
    """Run ``request`` (see ``unlearn.runtime.runner.run``) in a child of the server that has its libraries.

    Returns the exit status, KILLED for a child that gave none. A SIGTERM or SIGINT to this process is
    passed on, and the child's end awaited, so that nobody writes after the caller has gone. Raises Unavailable.
    """
    connection = _connect("models" if runs_models(request["stage"]) else "tables")
    message = json.dumps({**request, "cwd": os.getcwd(), "environment": dict(os.environ)}).encode()
    # The standard streams go first, so that the child's errors are seen whatever happens next.
    socket.send_fds(connection, [len(message).to_bytes(8, "big")], [1, 2])
    connection.sendall(message)

    def stop(number: int, _: object) -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    answer = connection.recv(1)
    for number, handler in previous.items():
        signal.signal(number, handler)
    return answer[0] if answer else KILLED


def runs_models(stage: str) -> bool:
    """Whether a stage runs models: its function takes a device. Its source says so; an import would load torch."""
    tree = ast.parse(Path(importlib.util.find_spec(stage).origin).read_text(encoding="utf-8"))
    functions = {node.name: node.args.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    return "device" in {argument.arg for argument in functions[stage.rpartition(".")[2]]}


def _connect(kind: str) -> socket.socket:
    try:
        folder = private(f"{os.environ[OWNER]}-{kind}")  # whoever can connect can run code
        if connection := _dial(_address(folder)):
            return connection
        from filelock import FileLock

        with FileLock(folder / "lock"):
            return _dial(_address(folder)) or _start(folder, kind)
    except OSError as error:
        raise Unavailable(str(error)) from None


def _address(folder: Path) -> str:
    return f"{folder}/socket"


def _dial(address: str) -> socket.socket | None:
    """A connection to the server at an address; None if there is none."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def _start(folder: Path, kind: str) -> socket.socket:
    """A connection to a new server."""
    address = _address(folder)
    Path(address).unlink(missing_ok=True)
    with open(folder / "log", "w+", encoding="utf-8") as log:
        server = subprocess.Popen(
            # -P: a file json.py in the folder where the workflow runs is not the library.
            [sys.executable, "-P", "-m", "unlearn.runtime.fork_server", kind, address, os.environ[OWNER]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and server.poll() is None:
            if connection := _dial(address):
                return connection
            time.sleep(0.02)
        server.kill()
        log.seek(0)
        raise Unavailable((log.read().strip().splitlines() or ["it did not start"])[-1])
