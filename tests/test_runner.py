"""A job writes its log, fails in one line, and refuses sources that are not those it was planned with."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from unlearn.fingerprint import Sources
from unlearn.runtime import fork_server

JOBS = """
import logging, os, sys, time, signal

log = logging.getLogger("unlearn")

def write(out, text=""):
    with open(out, "w") as file:
        file.write(text)

def greet(name, out):
    write(out)
    log.info("hello %s", name)
    print("printed by a library")
    print("warned by a library", file=sys.stderr)

def fail(message, out):
    raise ValueError(message)

def refuse(key, out):
    from unlearn.config.settings import ConfigError

    raise ConfigError(f"{key}: is\\nnot to be")

def chatter(out):
    write(out)
    for step in range(1000):
        log.info("step %d", step)

def wait(mark, out):
    try:
        open(f"{mark}.started", "w").close()
        time.sleep(60)
    finally:
        open(f"{mark}.ended", "w").close()

def compute(out, device, given=None):
    write(out)
    log.info("computing on %s", device)

def code(out):
    from unlearn.io import metadata

    write(out)
    log.info(metadata.record()["code"])

def die(out):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def package(folder):
    """Copy the package into a folder, with the functions above as stages."""
    shutil.copytree(ROOT / "src/unlearn", folder / "unlearn", ignore=shutil.ignore_patterns("__pycache__"))
    for name in re.findall(r"^def (\w+)", JOBS, re.M):
        (folder / f"unlearn/stages/{name}.py").write_text(JOBS)
    return Sources(folder / "unlearn")


SCRIPT = """
from types import SimpleNamespace
from unlearn.runtime.runner import launch

class Files(dict):
    def __iter__(self):
        return iter(self.values())

snakemake = SimpleNamespace(
    input=Files({inputs!r}), output=Files({outputs!r}), log=[{log!r}], params={params!r},
    threads=1, config={{"checkpoint_seconds": 60, "device": {device!r}}},
)
launch(snakemake)
"""


@pytest.fixture
def launch(tmp_path):
    """``launch("fail", message="…")``: a script that launches a function of ``JOBS``; returns the process."""
    sources = package(tmp_path)

    def run(function, code=None, inputs=None, device="cpu", **arguments):
        log = tmp_path / "logs" / "job.log"
        params = {**arguments, "code": code or sources.digest(f"unlearn.stages.{function}")}
        outputs = {"out": "made/out.txt"}
        script = SCRIPT.format(params=params, inputs=inputs or {}, outputs=outputs, log=str(log), device=device)
        environment = {k: v for k, v in os.environ.items() if k != fork_server.OWNER}
        environment["PYTHONPATH"] = str(tmp_path)
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        done.log = log.read_text()
        return done

    return run


def test_success_is_silent_and_logged(launch):
    done = launch("greet", name="you")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "hello you" in done.log


def test_what_libraries_print_goes_to_the_log(launch):
    done = launch("greet", name="you")
    assert "printed by a library" in done.log
    assert "warned by a library" in done.log


def test_a_failure_is_one_line_and_the_log_has_the_rest(launch):
    done = launch("fail", message="the reason")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.strip().startswith("job: ValueError: the reason, at stages/fail.py, line ")
    assert line.strip().endswith("logs/job.log)")
    assert "Traceback" in done.log
    assert "raise ValueError(message)" in done.log


def test_an_error_that_says_what_to_mend_is_one_line_in_the_log_too(launch):
    done = launch("refuse", key="settings.probe")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.strip().startswith("job: ConfigError: settings.probe: is not to be (")
    (logged,) = done.log.splitlines()
    assert "ConfigError: settings.probe: is not to be" in logged


def test_progress_does_not_flood_the_terminal(launch):
    done = launch("chatter")
    assert done.stderr == ""
    assert done.log.count("step ") == 1000


def test_a_log_is_of_the_last_attempt(launch):
    launch("fail", message="the first attempt")
    assert "the first attempt" not in launch("greet", name="you").log


def test_the_code_must_be_that_of_the_plan(launch):
    code = f"{'0' * 16} unlearn.stages.greet"
    done = launch("greet", code, name="you")
    assert done.returncode == 1
    assert "StaleCode" in done.stderr
    assert "hello" not in done.log


def test_the_fingerprint_reaches_the_record(launch, tmp_path):
    """Every artifact says which code made it."""
    assert Sources(tmp_path / "unlearn").digest("unlearn.stages.code") in launch("code").log


def test_auto_becomes_a_device(launch):
    log = launch("compute", inputs={"given": "unlearn/run.py"}, device="auto").log
    assert "computing on cpu" in log or "computing on cuda" in log


def test_cuda_is_not_replaced_in_silence(launch):
    done = launch("compute", inputs={"given": "unlearn/run.py"}, device="cuda")
    if done.returncode == 0:
        assert "computing on cuda" in done.log
    else:
        assert "this machine has no CUDA device" in done.stderr


def test_a_job_that_reads_nothing_needs_no_gpu(launch):
    assert "computing on cpu" in launch("compute", device="cuda").log
