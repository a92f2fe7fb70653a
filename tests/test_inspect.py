"""`unlearn inspect`: what a study is about to do, from its data and from the records of earlier jobs."""

import shutil

import pytest
from conftest import ROOT
from test_new import folder

from unlearn.cli import inspect, main, plan, studies
from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET
from unlearn.provenance import records
from unlearn.run import Run

OVERLAY = """
study: mine
dataset: mine
archs: [resnet]
forgets: [bees]
scopes: [last, all]
methods: [cf]
settings:
  datasets:
    mine:
      source: {name: imagefolder, root: photos}
      normalize: {mean: [0.5], std: [0.25]}
      eps: {linf: calibrate}
  forgets:
    bees: {kind: class, classes: [bee]}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The study of OVERLAY, in the current folder with its data."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "photos", ["train", "val"])
    first = next((tmp_path / "photos/train/ant").iterdir())
    shutil.copy(first, first.with_name("copy.png"))
    for number in range(3):  # a third class, so that two are retained
        for part in ("train", "val"):
            folder(tmp_path / f"{number}{part}", ["."], count=1)
            inner = tmp_path / "photos" / part / "cat"
            inner.mkdir(exist_ok=True)
            shutil.copy(next((tmp_path / f"{number}{part}/ant").iterdir()), inner / f"{number}.png")
    (tmp_path / "mine.yaml").write_text(OVERLAY)
    return studies.read(["mine.yaml"])


@pytest.fixture
def planned(monkeypatch):
    """The plan of Snakemake, which takes seconds."""
    found = {"pretrain": 1, "unlearn": 4}
    monkeypatch.setattr(plan, "jobs", lambda overlays: found)
    return found


def made(output, stage, seconds, settings=None, arguments=None, device=None):
    """The record of a job that wrote ``output``."""
    path = records.record_of(output)
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    known = {"stage": f"unlearn.stages.{stage}", "settings": settings, "arguments": arguments or {}}
    records.write(path, {**known, "seconds": seconds, "device": device, "sources": {}})


def earlier(study, name="earlier", recipe=None, data=None):
    """The records of an earlier study of the same data and recipe, unless given."""
    base = f"results/{name}"
    made(f"{base}/dataset.parquet", "dataset", 3.0, data or study.dataset_settings())
    own = {"arguments": {"run": vars(Run("resnet", "none", "pretrain", "all", 0))}, "device": "cpu"}
    settings = recipe or study.training_settings("resnet")
    made(f"{base}/pretrained/resnet/seed0/model.safetensors", "pretrain", 100.0, settings, **own)
    for method, seconds in (("cf", 10.0), ("rl", 20.0), ("retrain", 90.0)):
        own["arguments"] = {"run": vars(Run("resnet", "random10", method, "all", 0))}
        made(f"{base}/runs/resnet/random10/{method}-all/seed0/model.safetensors", "unlearn", seconds, **own)


def test_all_that_is_to_know(study, planned, capsys):
    assert main(["inspect", "mine.yaml"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "study mine, results in results/mine/",
        "data: name imagefolder, root photos",
        "class ant: 5 training images, 4 test images",
        "bees: forget 4, retain 8, test 11",
        "bees: forgotten whole: class bee",
        "runs: 4 (1 architectures, 1 forget sets, 3 methods with the controls, 2 scopes, 1 seeds)",
        "  of each method: original 1, retrain 1, cf 2",
        "jobs: 5 (pretrain 1, unlearn 4)",
        "time: not known (no earlier results of these data and models)",
    ):
        assert f"{line}\n" in printed
    assert "images equal another one pixel by pixel" in printed
    (whole,) = [line for line in printed.splitlines() if line.startswith("resnet, all: ")]
    assert whole.endswith("(100.0%)")
    assert not list((ROOT / "results").glob("mine"))


def test_nothing_is_written(study, planned, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert main(["inspect", "mine.yaml"]) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_study_that_is_done(study, planned, capsys):
    planned.clear()
    assert main(["inspect", "mine.yaml"]) == 0
    assert capsys.readouterr().out.endswith("jobs: none, all results are there\n")


@pytest.mark.parametrize("same", [True, False])
def test_data_of_the_results_are_not_read_again(study, same, dataset, tmp_path):
    """Unless they are of other settings."""
    settings = {**study.dataset_settings(), **({} if same else {"size": 4})}
    found = tables.read(DATASET, dataset).to_pydict()
    metadata = {"classes": ["ant", "bee", "cat", "dog"], "shape": [1, 8, 8], "settings": settings}
    tables.write(DATASET, tmp_path / "results/mine/dataset.parquet", found, metadata)
    table, lines = inspect._dataset(study, tmp_path / "results/mine", str(tmp_path))
    assert (table == str(tmp_path / "results/mine/dataset.parquet")) == same
    assert (" 4 classes, images of shape (1, 8, 8)" in lines[0]) == same


# --- time -----------------------------------------------------------------------------------------


def test_time_is_that_of_earlier_jobs(study, tmp_path):
    """Exact retraining is a rule of its own, though its stage is that of methods."""
    earlier(study)
    known = plan.costs(study, tmp_path / "results")
    assert {rule: sorted(found) for rule, found in known.seconds.items()} == {
        "dataset": [3.0], "pretrain": [100.0], "unlearn": [10.0, 20.0], "retrain": [90.0],
    }  # fmt: skip
    line = plan.estimate({"pretrain": 2, "unlearn": 4, "retrain": 1, "attack": 7}, known)
    assert line == (  # 200 + 4 × 15 + 90
        f"time: 6 min one job after another, by the means of 4 jobs of {tmp_path}/results/earlier (cpu); "
        "not known for attack 7"
    )


def test_jobs_of_other_data_or_models_say_nothing(study, tmp_path):
    earlier(study, "data", data={**study.dataset_settings(), "size": 4})
    settings = study.training_settings("resnet")
    earlier(study, "recipe", recipe={**settings, "method": {**settings["method"], "epochs": 99}})
    known = plan.costs(study, tmp_path / "results")
    assert {rule: list(found) for rule, found in known.seconds.items()} == {"dataset": [3.0]}


def test_damaged_records_are_passed_over(study, tmp_path):
    earlier(study)
    records.record_of("results/earlier/pretrained/resnet/seed0/model.safetensors").write_text("{")
    assert "unlearn" not in plan.costs(study, tmp_path / "results").seconds, "its recipe is not known"


# --- what Snakemake plans -------------------------------------------------------------------------


@pytest.mark.slow
def test_jobs_are_those_of_snakemake(study):
    found = plan.jobs(["mine.yaml"])
    assert {rule: found[rule] for rule in ("pretrain", "retrain", "unlearn", "predict")} == {
        "pretrain": 1, "retrain": 1, "unlearn": 3, "predict": 4,
    }  # fmt: skip
    assert not found.keys() & {"all", "total"}


@pytest.mark.slow
def test_what_snakemake_refuses_is_one_line(study, tmp_path):
    (tmp_path / "mine.yaml").write_text(OVERLAY.replace("archs: [resnet]", "archs: [nowhere]"))
    with pytest.raises(plan.PlanError, match=r"arch 'nowhere' has no entry in settings\.archs"):
        plan.jobs(["mine.yaml"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("root: photos", "root: nowhere", "mine.yaml: settings.datasets.mine.source.root: nowhere: no such folder"),
        ("methods: [cf]", "methods: [mine]", "mine.yaml: methods: no method named 'mine'"),
        ("classes: [bee]", "classes: [dog]", "settings.forgets.bees.classes: 'dog' is none of"),
        ("scopes: [last, all]", 'scopes: ["groups: 3-99"]', "scopes.0: 'groups: 3-99'"),
    ],
)
def test_what_is_missing_is_named(study, planned, capsys, tmp_path, old, new, message):
    (tmp_path / "mine.yaml").write_text(OVERLAY.replace(old, new))
    assert main(["inspect", "mine.yaml"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
