"""Warm processes: a request is served by a fork, and nobody outlives whom they work for."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from test_runner import JOBS, SCRIPT, package

from unlearn.fingerprint import Sources
from unlearn.runtime import fork_server

CALL = """
import json, sys
from unlearn.runtime import fork_server
sys.exit(fork_server.call(json.loads(sys.argv[1])))
"""
# A server that preloads nothing starts in no time.
SERVE = """
import sys
from pathlib import Path
from unlearn.runtime import fork_server
fork_server.PRELOAD["models"] = ()
fork_server.serve("models", Path(sys.argv[1]), int(sys.argv[2]))
"""


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Service:
    """An owner (a process that sleeps), a server that lives with it, and calls to that server."""

    def __init__(self, folder: Path):
        self.folder = folder
        package(folder)
        self.owner = subprocess.Popen(["sleep", "120"])
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "TMPDIR": str(folder),
            fork_server.OWNER: str(self.owner.pid),
        }
        home = folder / f"unlearn-{os.getuid()}-{self.owner.pid}"
        home.mkdir(mode=0o700)
        self.socket = home / "models.sock"
        command = [sys.executable, "-c", SERVE, str(self.socket), str(self.owner.pid)]
        self.server = subprocess.Popen(command, env=self.environment)
        until(self.socket.exists)

    def add(self, name: str, line: str) -> None:
        """A stage that consists of a line."""
        (self.folder / f"unlearn/stages/{name}.py").write_text(
            f"{JOBS}\ndef {name}(out):\n    write(out)\n    {line}\n"
        )

    def start(self, function: str, **arguments) -> subprocess.Popen:
        """A client process that is waiting for its answer."""
        files = {"files": {"out": "out.txt"}, "inputs": [], "outputs": ["out.txt"], "log": str(self.folder / "job.log")}
        request = {"stage": f"unlearn.stages.{function}", "arguments": arguments, **files, "code": "", "threads": 1}
        command = [sys.executable, "-c", CALL, json.dumps(request)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True, cwd=self.folder)

    def call(self, function: str, **arguments) -> tuple[int, str, str]:
        """Exit status, what the terminal saw, and the log."""
        client = self.start(function, **arguments)
        _, terminal = client.communicate(timeout=60)
        return client.returncode, terminal, (self.folder / "job.log").read_text()

    def close(self):
        for process in (self.owner, self.server):
            process.kill()
            process.wait()


@pytest.fixture
def service():
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has at most 107 characters
        found = Service(Path(folder))
        yield found
        found.close()


def test_a_request_is_served(service):
    status, terminal, log = service.call("greet", name="you")
    assert (status, terminal) == (0, "")
    assert "hello you" in log
    assert "printed by a library" in log


def test_a_failure_is_one_line_on_the_callers_terminal(service):
    status, terminal, log = service.call("fail", message="the reason")
    assert status == 1
    (line,) = terminal.splitlines()
    assert "ValueError: the reason" in line
    assert "Traceback" in log


def test_one_server_serves_many(service):
    clients = [service.start("greet", name=str(i)) for i in range(4)]
    assert [client.wait(60) for client in clients] == [0] * 4
    assert service.call("greet", name="again")[0] == 0
    assert service.server.poll() is None


def test_jobs_run_in_the_callers_folder_and_environment(service):
    service.add("where", "log.info('%s %s', os.getcwd(), os.environ['MARK'])")
    service.environment["MARK"] = "seen"
    assert f"{service.folder.resolve()} seen" in service.call("where")[2]


def test_jobs_run_the_sources_as_they_are_now(service):
    assert service.call("greet", name="you")[0] == 0
    path = service.folder / "unlearn/stages/greet.py"
    path.write_text(path.read_text().replace('"hello %s', '"good morning %s'))
    assert "good morning you" in service.call("greet", name="you")[2]


def test_a_killed_job_is_told_from_a_failed_one(service):
    assert service.call("die")[0] == fork_server.KILLED
    assert service.call("greet", name="next")[0] == 0, "and the server goes on"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_job_before_the_caller_ends(service, number):
    """So nobody writes to an output that Snakemake has already given up."""
    mark = service.folder / "mark"
    client = service.start("wait", mark=str(mark))
    until(mark.with_suffix(".started").exists)
    client.send_signal(number)
    assert client.wait(30) != 0
    assert mark.with_suffix(".ended").exists()


def test_a_job_ends_with_a_caller_that_was_killed(service):
    mark = service.folder / "mark"
    client = service.start("wait", mark=str(mark))
    until(mark.with_suffix(".started").exists)
    client.kill()
    client.wait()
    until(mark.with_suffix(".ended").exists)


def test_the_server_ends_with_its_owner(service):
    service.owner.kill()
    service.owner.wait()
    assert service.server.wait(30) == 0
    assert not service.socket.exists()


def test_a_folder_that_others_can_enter_is_refused(service):
    service.socket.parent.chmod(0o777)
    client = service.start("greet", name="you")
    assert "is not private to this user" in client.communicate(timeout=60)[1]
    assert client.returncode != 0


@pytest.mark.slow
def test_the_first_call_starts_a_server_with_the_libraries(service):
    """Of a real kind, through ``launch``; the second call finds the same one."""
    service.add("gate", "log.info('%s %s', 'pandas' in sys.modules, os.getppid())")
    code = Sources(service.folder / "unlearn").digest("unlearn.stages.gate")
    files = {"inputs": {}, "outputs": {"out": "out.txt"}, "log": "job.log", "device": "cpu"}
    code = SCRIPT.format(params={"code": code}, **files)
    seen = []
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", code], env=service.environment, cwd=service.folder, timeout=120, check=True
        )
        seen.append((service.folder / "job.log").read_text().split()[-2:])
    assert seen[0] == seen[1]
    assert seen[0][0] == "True"
    service.owner.kill()
    service.owner.wait()
    until(lambda: not service.socket.with_name("tables.sock").exists())
