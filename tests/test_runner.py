"""A job writes its log, fails in one line, and refuses sources that are not those it was planned with."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from unlearn.fingerprint import Sources

JOBS = """
import logging, os, sys, time, signal

log = logging.getLogger("unlearn")

def write(out, text=""):
    with open(out, "w") as file:
        file.write(text)

def greet(name, out, device=None):
    write(out)
    log.info("hello %s on %s", name, device)
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

def die(out):
    os.kill(os.getpid(), signal.SIGKILL)
"""


SCRIPT = """
from types import SimpleNamespace
from unlearn.runtime.runner import launch

class Files(dict):
    def __iter__(self):
        return iter(self.values())

snakemake = SimpleNamespace(
    input=Files({inputs!r}), output=Files({outputs!r}), log=[{log!r}], params=SimpleNamespace(code={code!r}),
    threads=1, config={{'checkpoint_seconds': 60}},
)
launch("jobs:{function}", snakemake, kind="tables", **{arguments!r})
"""


@pytest.fixture
def launch(tmp_path):
    """``launch("fail", message="…")``: a script that launches a function of ``JOBS``; returns the process."""
    (tmp_path / "jobs.py").write_text(JOBS)

    def run(function, code="", inputs=None, **arguments):
        log = tmp_path / "logs" / "job.log"
        names = {"inputs": inputs or {}, "outputs": {"out": "made/out.txt"}}
        script = SCRIPT.format(function=function, code=code, log=str(log), arguments=arguments, **names)
        environment = {k: v for k, v in os.environ.items() if k != "UNLEARN_WARM"}
        environment["PYTHONPATH"] = f"{ROOT / 'src'}:{tmp_path}"
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
    assert line.strip().startswith("job: ValueError: the reason (")
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


def test_sources_must_be_those_of_the_plan(launch):
    sources = Sources(ROOT / "src", ROOT / "workflow/scripts")
    digest = sources.digest("split.py")
    assert launch("greet", digest, name="you").returncode == 0
    done = launch("greet", digest.replace(digest[:4], "0000", 1), name="you")
    assert done.returncode == 1
    assert "StaleCode: the sources have changed since this run was started" in done.stderr
    assert "hello" not in done.log


def test_the_fingerprint_reaches_the_record(launch, tmp_path):
    """Every artifact says which code made it."""
    with open(tmp_path / "jobs.py", "a") as file:
        file.write("\ndef code(out):\n    from unlearn import provenance\n    write(out)\n")
        file.write("    log.info(provenance.record()['code'])\n")
    digest = Sources(ROOT / "src", ROOT / "workflow/scripts").digest("split.py", "unlearn.stages.split")
    assert digest in launch("code", digest).log


def test_auto_becomes_a_device(launch):
    log = launch("greet", name="you", device="auto").log
    assert "hello you on cpu" in log or "hello you on cuda" in log


def test_cuda_is_not_replaced_in_silence(launch):
    done = launch("greet", name="you", device="cuda")
    if done.returncode == 0:
        assert "hello you on cuda" in done.log
    else:
        assert "this machine has no CUDA device" in done.stderr
