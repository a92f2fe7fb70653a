"""A fork server: a process that has the libraries loaded forks a child for each job.

Importing torch and timm takes 8 CPU seconds, a fork from a process that has them 0.05, and most jobs of the digits
study less than one. The server imports third-party libraries only. A child imports this package itself, so it runs the
sources as they are now. ``unlearn.runtime.launcher`` starts a server and sends it requests. Linux and macOS.
"""

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

PRELOAD = {
    "models": ("numpy", "pandas", "pyarrow.parquet", "torch", "timm", "torchattacks"),
    "tables": ("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.svm", "matplotlib.pyplot"),
}


def serve(kind: str, address: str, owner: int) -> None:
    """Import the kind's libraries, then fork for every connection until the process ``owner`` has ended.

    Then the folder of ``address`` is removed.
    """
    import psutil

    try:
        workflow = psutil.Process(owner)  # a later process with the same number is another one
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        for name in PRELOAD[kind]:
            importlib.import_module(name)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped at once
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen(64)
        listener.settimeout(1.0)
        while workflow.is_running():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                if os.fork() == 0:
                    listener.close()
                    _child(connection)
                connection.close()
    finally:
        shutil.rmtree(Path(address).parent, ignore_errors=True)


def _child(connection: socket.socket) -> None:
    """Take the caller's streams, folder and environment, run its request, answer, and exit."""
    status = 1
    try:
        connection.settimeout(None)
        head, streams, _, _ = socket.recv_fds(connection, 8, 2)
        for stream, number in zip(streams, (1, 2), strict=True):
            os.dup2(stream, number)
        message = b"".join(_receive(connection, int.from_bytes(head, "big")))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        threading.Thread(target=_watch, args=(connection,), daemon=True).start()
        request = json.loads(message)
        os.chdir(request.pop("cwd"))
        os.environ.clear()
        os.environ.update(request.pop("environment"))
        from unlearn.runtime.runner import run

        status = run(request)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the watcher's, when the caller has its answer and goes
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(bytes([status]))
        os._exit(status)


def _receive(connection: socket.socket, length: int) -> Iterator[bytes]:
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
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
