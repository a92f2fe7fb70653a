"""A run that diverges is left out with its reason; everything else is as it was."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import CLASSES, EXECUTION, NETS, ROOT, SHAPE

from unlearn.io import failures, tables
from unlearn.io.columns import DETAIL_KEY
from unlearn.io.failures import RunFailed
from unlearn.io.schema.failures import FAILURES
from unlearn.io.schema.metrics import METRICS
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.models import checkpoint
from unlearn.run import Run
from unlearn.stages import collect, split

RUN = {"arch": "net", "forget": "some", "method": "ga", "scope": "all", "seed": 0}
MODEL = NETS["batchnorm"]


def test_a_marked_table_or_weights_file_says_why(tmp_path):
    for name in ("t.parquet", "w.safetensors"):
        failures.write(tmp_path / name, RUN, "the loss is nan\nin epoch 1")
    for read in (
        lambda: tables.read(METRICS, tmp_path / "t.parquet"),
        lambda: checkpoint.load(tmp_path / "w.safetensors"),
        lambda: checkpoint.metadata(tmp_path / "w.safetensors"),
    ):
        with pytest.raises(RunFailed, match=r"^the loss is nan in epoch 1$"):
            read()
    assert sorted(os.listdir(tmp_path)) == ["t.parquet", "w.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "can"),
    [
        ({"run": RUN}, True),
        ({"run": {**RUN, "method": "retrain"}}, False),
        ({"run": {**RUN, "method": "original"}}, False),
        ({"run": {**RUN, "method": "pretrain"}}, False),
        ({"name": "cost"}, False),
    ],
)
def test_a_study_can_do_without_methods_but_not_without_controls(arguments, can):
    assert failures.tolerable(arguments) is can


def test_weights_that_are_no_numbers_are_a_failed_run(net, tmp_path):
    with torch.no_grad():
        next(net.parameters()).fill_(torch.nan)
    with pytest.raises(RunFailed, match="not finite"):
        checkpoint.save(net, tmp_path / "model.safetensors", {})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def serve(tmp_path, dataset):
    """``serve(stage, outputs, **arguments)``: a job in a process of its own; returns the process."""

    def run(stage, outputs, method="ga", **arguments):
        request = {
            "stage": f"unlearn.stages.{stage}",
            "arguments": {"run": {**RUN, "method": method}, **arguments},
            "device": "cpu",
            "files": outputs,
            "inputs": [],
            "outputs": list(outputs.values()),
            "log": str(tmp_path / "job.log"),
            "code": "",
            "threads": 1,
            "checkpoint_seconds": 60,
        }
        code = "import json, sys; from unlearn.runtime.runner import run; sys.exit(run(json.loads(sys.argv[1])))"
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(
            [sys.executable, "-c", code, json.dumps(request)], env=environment, capture_output=True, text=True
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ga", "retrain"])
def test_training_that_diverges_leaves_a_result_that_says_so(serve, tmp_path, dataset, method):
    """Of a method; exact retraining that diverges stops the study."""
    from unlearn.models.classifier import Spec, create

    original, roles = str(tmp_path / "original.safetensors"), str(tmp_path / "s.parquet")
    checkpoint.save(create(Spec(**MODEL, classes=CLASSES, shape=SHAPE), 0), original, {})
    split.split(dataset, roles, "some", {"kind": "random", "fraction": 0.2, "seed": 0})
    settings = {"model": MODEL, "method": {"epochs": 2, "batch_size": 4, "lr": 1e30}, **EXECUTION}
    outputs = {k: str(tmp_path / "run" / f"{k}.parquet") for k in ("history", "cost")}
    outputs["model"] = str(tmp_path / "run" / "model.safetensors")
    given = {"dataset": dataset, "split": roles, "original": original, "tuning": None, "settings": settings}
    done = serve("unlearn", outputs, method, **given)
    assert "Traceback" not in done.stderr
    if method == "retrain":
        assert done.returncode == 1
        assert "the loss is nan in epoch" in done.stderr
        assert not os.path.exists(outputs["model"])
        return
    assert done.returncode == 0, done.stderr
    assert "this run is left out: the loss is nan in epoch" in done.stderr
    predicted = {"out": str(tmp_path / "run" / "predictions.parquet")}
    given = {"model": outputs["model"], "dataset": dataset, "split": roles}
    done = serve("predict", predicted, **given)
    assert done.returncode == 0, done.stderr
    with pytest.raises(RunFailed, match=r"^the loss is nan in epoch 1 at learning rate 1e\+30$"):
        tables.read(PREDICTIONS, predicted["out"])


def test_collected_without_the_runs_that_failed(tmp_path):
    whole = {**{key: [None] for key in DETAIL_KEY}, "metric": ["ua"], "value": [0.5], "n": [3], "reason": [None]}
    for seed in (0, 1):
        path = tmp_path / f"{seed}.parquet"
        if seed:
            tables.write(METRICS, path, whole, {}, Run(**{**RUN, "seed": seed}))
        else:
            failures.write(path, RUN, "the loss is nan")
    parts = [str(tmp_path / f"{seed}.parquet") for seed in (0, 1)]
    collect.collect("metrics", parts, str(tmp_path / "metrics.parquet"))
    collect.collect("failures", parts, str(tmp_path / "failures.parquet"))
    assert tables.read(METRICS, tmp_path / "metrics.parquet")["seed"].to_pylist() == [1]
    assert tables.read(FAILURES, tmp_path / "failures.parquet").to_pylist() == [{**RUN, "reason": "the loss is nan"}]
