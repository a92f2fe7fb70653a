"""Fork servers: a request is served by a fork, and nobody outlives whom they work for."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import ROOT
from test_runner import JOBS, SCRIPT, package

from unlearn.fingerprint import Sources
from unlearn.runtime import launcher

CALL = """
import json, sys
from unlearn.runtime import launcher
sys.exit(launcher.call(json.loads(sys.argv[1])))
"""
# A server that preloads nothing starts in no time.
SERVE = """
import sys
from unlearn.runtime import fork_server
fork_server.PRELOAD["tables"] = ()
fork_server.serve("tables", sys.argv[1], int(sys.argv[2]))
"""


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Service:
    """An owner (a process that sleeps), calls to the server of its jobs, and if asked for a server that is there."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.package = folder / "package"
        package(self.package)
        self.owner = subprocess.Popen(["sleep", "120"])
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(self.package),
            "TMPDIR": str(folder),
            launcher.OWNER: str(self.owner.pid),
        }
        self.home = folder / f"unlearn-{os.getuid()}-{self.owner.pid}-tables"
        self.server = None

    def serve(self) -> None:
        self.home.mkdir(mode=0o700)
        socket = self.home / "socket"
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(socket), str(self.owner.pid)], env=self.environment
        )
        until(socket.exists)

    def add(self, name: str, line: str) -> None:
        """A stage that consists of a line."""
        (self.package / f"unlearn/stages/{name}.py").write_text(
            f"{JOBS}\ndef {name}(out):\n    write(out)\n    {line}\n"
        )

    def start(self, function: str, **arguments) -> subprocess.Popen:
        """A client process that is waiting for its answer."""
        files = {"files": {"out": "out.txt"}, "inputs": [], "outputs": ["out.txt"], "log": str(self.folder / "job.log")}
        request = {"stage": f"unlearn.stages.{function}", "arguments": arguments, **files, "code": "", "threads": 1}
        command = [sys.executable, "-c", CALL, json.dumps(request)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True, cwd=self.folder)

    def launch(self, stage: str, **params) -> subprocess.CompletedProcess:
        """A job's script, which has run."""
        params["code"] = Sources(self.package / "unlearn").digest(f"unlearn.stages.{stage}")
        files = {"inputs": {}, "outputs": {"out": "out.txt"}, "log": "job.log", "device": "cpu"}
        command = [sys.executable, "-P", "-c", SCRIPT.format(params=params, **files)]
        pipes = {"capture_output": True, "text": True, "timeout": 120}
        return subprocess.run(command, env=self.environment, cwd=self.folder, **pipes)

    def call(self, function: str, **arguments) -> tuple[int, str, str]:
        """Exit status, what the terminal saw, and the log."""
        client = self.start(function, **arguments)
        _, terminal = client.communicate(timeout=60)
        return client.returncode, terminal, (self.folder / "job.log").read_text()

    def close(self):
        self.owner.kill()
        self.owner.wait()
        if self.server:
            assert self.server.wait(30) == 0


@pytest.fixture
def unserved():
    """Without a server."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path has at most a hundred characters
        found = Service(Path(folder))
        yield found
        found.close()
        until(lambda: not list(Path(folder).glob("unlearn-*")))


@pytest.fixture
def service(unserved):
    unserved.serve()
    return unserved


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


@pytest.mark.slow
def test_jobs_run_the_sources_as_they_are_now(service):
    assert service.call("greet", name="you")[0] == 0
    path = service.package / "unlearn/stages/greet.py"
    path.write_text(path.read_text().replace('"hello %s', '"good morning %s'))
    assert "good morning you" in service.call("greet", name="you")[2]


def test_a_killed_job_is_told_from_a_failed_one(service):
    assert service.call("die")[0] == launcher.KILLED
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
    assert not service.home.exists()


# --- servers that a job starts ------------------------------------------------------------------------------------


def test_a_job_without_a_server_runs_in_a_process_of_its_own(unserved):
    """The reason is one line on the terminal."""
    (unserved.package / "scipy.py").write_text("raise ImportError('jammed')")
    done = unserved.launch("greet", name="you")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "ImportError: jammed" in line
    assert (unserved.folder / "out.txt").exists()


def test_a_folder_that_others_can_enter_is_not_used(service):
    service.home.chmod(0o777)
    done = service.launch("greet", name="you")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "is not private to this user" in line
    assert service.server.poll() is None


@pytest.mark.parametrize("length", [20, 120])
def test_servers_are_offered_where_their_address_can_be_short_enough(length):
    """A socket's address has at most a hundred characters; jobs can do without a server."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    long = folder / ("x" * (length - len(str(folder)) - 1))
    long.mkdir()
    code = "import os; from unlearn.runtime import launcher; launcher.offer(); print(os.environ.get(launcher.OWNER))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(long)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    shutil.rmtree(folder)
    offered, said = done.stdout.strip() != "None", done.stderr.splitlines()
    assert (offered, len(said)) == ((True, 0) if length == 20 else (False, 1))
    assert all(str(long) in line for line in said)


@pytest.mark.slow
def test_the_first_job_starts_a_server_with_the_libraries(unserved):
    """It serves the second job too, and does not mistake files in the user's folder for libraries."""
    service = unserved
    service.add("gate", "log.info('%s %s', 'pandas' in sys.modules, os.getppid())")
    for name in ("json", "pandas", "psutil", "scipy", "socket", "timm"):
        (service.folder / f"{name}.py").write_text("raise ImportError('of the user')")
    seen = []
    for _ in range(2):
        done = service.launch("gate")
        assert (done.returncode, done.stderr) == (0, "")
        seen.append((service.folder / "job.log").read_text().split()[-2:])
    assert seen[0] == seen[1]
    assert seen[0][0] == "True"
