"""Warm processes: a server that has the libraries loaded and forks a child for each job.

Importing torch and timm costs 8 CPU seconds, most digits jobs well under one; a fork from a process
that has them costs 0.05. The server imports third-party libraries only: a child imports this
package's modules itself, so it always runs the sources as they are. One server a workflow process
and set of libraries; it ends when that process has gone. Linux and macOS.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

OWNER = "UNLEARN_WARM"  # pid of the workflow process that servers live with; unset: no servers
PRELOAD = {
    "models": ("numpy", "pandas", "pyarrow.parquet", "torch", "timm", "torchattacks"),
    "tables": ("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.svm", "matplotlib.pyplot"),
}
START_TIMEOUT = 600  # the first import from a network file system takes minutes
LONGEST_ADDRESS = 107  # bytes
KILLED = 137  # exit status of a child that ended without an answer


# Stages that work on tables alone, so that their jobs need no torch.
TABLE_STAGES = ("analyse", "collect", "figure", "gate", "measure", "shadow_split", "split", "table", "ulira")


def call(request: dict[str, Any]) -> int:
    """Run ``request`` (see ``unlearn.runtime.runner.serve``) in a child of the server that has its libraries.

    Returns the exit status, KILLED for a child that gave none. A SIGTERM or SIGINT to this process is
    passed on, and the child's end awaited, so that nobody writes after the caller has gone.
    """
    connection = _connect("tables" if request["stage"].rpartition(".")[2] in TABLE_STAGES else "models")
    message = json.dumps({**request, "cwd": os.getcwd(), "environment": dict(os.environ)}).encode()
    # Order matters: with its standard streams the child can be heard, whatever happens.
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


def _connect(kind: str) -> socket.socket:
    from unlearn.io import files  # not in the server

    folder = files.private(os.environ[OWNER])  # whoever can connect can run code
    path = folder / f"{kind}.sock"
    if len(str(path)) > LONGEST_ADDRESS:
        raise RuntimeError(f"{path}: too long for the address of a socket; set TMPDIR to a shorter folder")
    with contextlib.suppress(OSError):
        return _dial(path)
    with open(folder / f"{kind}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):
            return _dial(path)
        path.unlink(missing_ok=True)
        with open(folder / f"{kind}.log", "w") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "unlearn.runtime.fork_server", kind, str(path), os.environ[OWNER]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(OSError):
                return _dial(path)
            time.sleep(0.02)
        server.kill()
    raise RuntimeError(f"no warm process of kind {kind!r}: {Path(log.name).read_text()[-2000:]}")


def _dial(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def serve(kind: str, path: Path, owner: int) -> None:
    """Import the kind's libraries, then fork for every connection until ``owner`` has gone."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    for name in PRELOAD[kind]:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped at once
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    listener.settimeout(1.0)
    while _alive(owner):
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            _child(connection)
        connection.close()
    path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _child(connection: socket.socket) -> None:
    """Take the caller's streams, folder and environment, run its request, answer, and exit."""
    status = 1
    try:
        connection.settimeout(None)
        head, streams, _, _ = socket.recv_fds(connection, 8, 2)
        for stream, number in zip(streams, (1, 2), strict=True):
            os.dup2(stream, number)
        length = int.from_bytes(head, "big")
        message = b"".join(_receive(connection, length))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        threading.Thread(target=_watch, args=(connection,), daemon=True).start()
        request = json.loads(message)
        os.chdir(request.pop("cwd"))
        os.environ.clear()
        os.environ.update(request.pop("environment"))
        from unlearn.runtime.runner import serve as run

        status = run(request)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(bytes([status]))
        os._exit(status)


def _receive(connection: socket.socket, length: int):
    while length:
        part = connection.recv(min(length, 1 << 16))
        if not part:
            raise ConnectionError("the caller has gone")
        length -= len(part)
        yield part


def _watch(connection: socket.socket) -> None:
    """The caller sends nothing more: the end of its stream means that it was stopped or is dead."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
