"""A full disk, a file size limit and too little memory: one clear line, nothing that passes for a result, and
the same job later completes."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
from conftest import CLASSES, EXECUTION, NETS, ROOT, SHAPE

from unlearn.io import tables
from unlearn.models import checkpoint
from unlearn.provenance import records
from unlearn.stages import split

pytestmark = pytest.mark.slow

MODEL = NETS["batchnorm"]
SETTINGS = {"model": MODEL, "method": {"epochs": 2, "batch_size": 8, "lr": 0.01}, **EXECUTION}
MOUNT = "mount -t tmpfs -o size=300k none {folder} && "


def can_mount() -> bool:
    """Whether this user may mount a file system of its own."""
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", MOUNT.format(folder="/mnt") + "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def job(dataset, tmp_path):
    """``job(before, shell, seconds)``: unlearn by CF in a process of its own, in which ``before`` (Python) runs first;
    ``shell`` goes before the command, progress is kept every ``seconds``. Returns the process; ``job.outputs`` are
    its files, ``job.left`` is the folder of all that it left: a copy of what lay on a disk that goes with it."""
    from unlearn.models.classifier import Spec, create

    original, roles = str(tmp_path / "original.safetensors"), str(tmp_path / "split.parquet")
    checkpoint.save(create(Spec(**MODEL, classes=CLASSES, shape=SHAPE), 0), original, {})
    split.split(dataset, roles, "some", {"kind": "random", "fraction": 0.2, "seed": 0})
    folder = tmp_path / "run"
    folder.mkdir()
    outputs = {name: str(folder / f"{name}.parquet") for name in ("history", "cost")}
    outputs["model"] = str(folder / "model.safetensors")
    given = {"dataset": dataset, "split": roles, "original": original, "tuning": None, "settings": SETTINGS}
    run = {"arch": "net", "forget": "some", "method": "cf", "scope": "all", "seed": 0}
    request = {
        "stage": "unlearn.stages.unlearn",
        "arguments": {"run": run, **given},
        "device": "cpu",
        "files": outputs,
        "inputs": [dataset, roles, original],
        "outputs": list(outputs.values()),
        "log": str(tmp_path / "job.log"),
        "code": "",
        "threads": 1,
    }

    def start(before="", shell="", seconds=0):
        asked = json.dumps({**request, "checkpoint_seconds": seconds})
        load = "import json, sys, resource, torch, timm, unlearn.stages.unlearn\n"
        code = f"{load}{before}\nfrom unlearn.runtime.runner import serve\nsys.exit(serve(json.loads({asked!r})))"
        command = [sys.executable, "-c", code]
        if shell:
            start.left = tmp_path / "left"
            line = f'{shell.format(folder=folder)}"$0" "$@"; status=$?; cp -R {folder} {start.left}; exit $status'
            command = ["unshare", "--mount", "--map-root-user", "sh", "-c", line, *command]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    start.outputs, start.folder, start.left = outputs, folder, folder
    return start


def failed_cleanly(done, job, *words):
    """One line with these words beside its paths, exit code not 0, and no output, record or part of one."""
    assert done.returncode not in (0, None)
    (line,) = done.stderr.strip().splitlines()
    said = line.replace(str(job.folder.parent), "")
    assert all(word in said for word in words), said
    assert "Traceback" not in done.stderr
    assert job.left.is_dir()
    left = [p.name for p in job.left.rglob("*") if p.is_file()]
    assert not [name for name in left if name.endswith((".part", ".json", ".lock", ".safetensors"))]


def completes(job):
    done = job()
    assert done.returncode == 0, done.stderr
    assert checkpoint.load(job.outputs["model"])
    assert len(tables.read(tables_of(), job.outputs["history"])) == 2
    assert records.read(records.record_of(job.outputs["history"]))
    assert not list(job.folder.rglob("*.progress"))


def tables_of():
    from unlearn.io.schema.history import HISTORY

    return HISTORY


@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system")
def test_a_full_disk(job):
    """When progress is to be kept."""
    failed_cleanly(job(shell=MOUNT), job, "No space left on device", "at io/progress.py")
    completes(job)


def test_a_limit_on_file_size(job):
    """The smaller files fit, the weights do not."""
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, {resource.RLIM_INFINITY}))"
    failed_cleanly(job(limit, seconds=60), job, "File too large", "at models/checkpoint.py")
    completes(job)


def test_too_little_memory(job):
    """Of torch's, for more than there can be. A limit on the process would hit a thread of some library first."""
    hungry = "from unlearn.models import classifier\nclassifier.check = lambda net: torch.empty(1 << 60)"
    failed_cleanly(job(hungry), job, "can't allocate memory")
    completes(job)
