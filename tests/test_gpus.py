"""Jobs that see several cards are spread over them, whoever started them and however they end."""

import os
import signal
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from unlearn.io import files
from unlearn.runtime import gpus, runner

HOLD = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from unlearn.runtime import gpus
print("ready", flush=True)
sys.stdin.readline()
print(gpus.chosen(tuple(sys.argv[2:])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path):
    """``job("0", "1")``: a process that takes one of these cards and holds it until its stdin ends."""
    started = []

    def start(*names):
        command = [sys.executable, "-c", HOLD, str(tmp_path), *names]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, env={"PYTHONPATH": f"{ROOT}/src"}, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def taken(*processes) -> list[int]:
    """The cards that processes take at the same moment."""
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * len(processes)
    for process in processes:
        print(file=process.stdin, flush=True)
    return [int(process.stdout.readline()) for process in processes]


@pytest.mark.parametrize(("jobs", "number"), [(2, 2), (5, 2), (3, 4), (7, 3)])
def test_jobs_that_start_at_once_are_spread_evenly(job, jobs, number):
    names = [str(i) for i in range(number)]
    per_card = Counter(taken(*(job(*names) for _ in range(jobs))))
    loads = [per_card[i] for i in range(number)]
    assert sum(loads) == jobs
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_card_is_free_when_its_job_has_ended(job, end):
    running = [job("0", "1") for _ in range(3)]
    alone = running[taken(*running).index(1)]
    alone.send_signal(end) if end else alone.stdin.close()
    alone.wait()
    assert taken(job("0", "1")) == [1]


def test_a_card_is_known_by_its_name_not_by_its_place(job):
    assert taken(job("2", "3")) == [0]
    assert taken(job("2", "3")) == [1]
    assert taken(job("3", "7")) == [1]


def test_a_process_takes_one_card_only(job):
    """However often it prepares a device."""
    held = len(gpus._held)
    names = (f"test-{os.getpid()}-0", f"test-{os.getpid()}-1")
    assert [gpus.chosen(names) for _ in range(3)] == [0, 0, 0]
    assert len(gpus._held) == held + 1


@pytest.mark.parametrize("wanted", ["cuda", "auto"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_job_computes_on_the_card_it_took(monkeypatch, wanted, number):
    """Without cards here, CUDA's own calls are only watched."""
    chosen, asked = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"GPU-{i}"))
    monkeypatch.setattr(gpus, "chosen", lambda names: asked.append(names) or len(names) - 1)
    assert runner._prepare(wanted, torch.get_num_threads()) == "cuda"
    assert chosen == [number - 1]
    assert asked == [("GPU-0", "GPU-1")[:number]]


def test_nobody_else_s_folder_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    folder = files.private("cards")
    assert folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match="is not private to this user"):
        files.private("cards")
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="is not private to this user"):
        files.private("cards")
