"""What happens to a finished study whose files were changed, copied or left by a killed run."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from plans import WHOLE_RUN, analysis, end, of_runs, splits
from tiny import TINY, Copy

from unlearn.provenance import records

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("provenance")]

SMALL = (
    TINY.replace("methods: [cf, salun]\nscopes: [last, all]", "methods: [cf]\nscopes: [all]\nforgets: [listed]")
    .replace("settings:\n", "settings:\n  forgets: {listed: {kind: ids, file: forget.txt}}\n")
    .replace("seeds: [0]", "seeds: [0]\nfigures: [cost, overview]")
)
RUN = "results/digits/runs/net/listed"
CF = f"{RUN}/cf-all/seed0"
STUDY = yaml.safe_load(SMALL)
END = end(STUDY)
WHOLE = of_runs(STUDY, *WHOLE_RUN, methods=["cf"]) | END
MEASURED = of_runs(STUDY, "measure", methods=["cf"]) | END
PREDICTED = of_runs(STUDY, "predict", methods=["cf"]) | MEASURED
ATTACKED = {job for job in WHOLE if job.startswith("Attack by pgd:")} | MEASURED


class Study(Copy):
    """A small study that forgets a list of ids."""

    def __init__(self, root):
        super().__init__(root, SMALL)
        (root / "forget.txt").write_text("\n".join(map(str, range(100))))

    def rewrite(self, output, **changes):
        """Change the record of a result."""
        path = self.root / records.record_of(output)
        records.write(path, {**records.read(path), **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    found = Study(tmp_path_factory.mktemp("project"))
    found.run("all")
    return found


@pytest.fixture
def study(finished, tmp_path):
    """The finished study, put back as it was afterwards."""
    parts = ("results", ".snakemake", "forget.txt", "src")
    for part in parts:
        subprocess.run(["cp", "-a", finished.root / part, tmp_path / part], check=True)
    yield finished
    for part in parts:
        subprocess.run(["rm", "-rf", finished.root / part], check=True)
        subprocess.run(["cp", "-a", tmp_path / part, finished.root / part], check=True)


def append(path):
    with open(path, "ab") as file:
        file.write(b"x")


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


def older_copy(path):
    """Another model, with an old time."""
    shutil.copy(path.parents[2] / "retrain-all/seed0" / path.name, path)
    os.utime(path, (1e9, 1e9))


def other_ids(path):
    """Other ids, with an old time."""
    path.write_text("\n".join(map(str, range(50))))
    os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize(
    ("path", "damage", "planned"),
    [
        ("results/digits/metrics.parquet", append, END - {"Collect failures"}),
        ("results/digits/metrics.parquet", os.unlink, END - {"Collect failures"}),
        (f"{CF}/predictions.parquet", truncate, PREDICTED),
        (f"{CF}/predictions.parquet", os.unlink, set()),  # nothing needs it
        (f"{CF}/history.parquet", append, WHOLE),
        (f"{CF}/model.safetensors", older_copy, WHOLE),
        (f"{CF}/.made/adversarial-pgd.parquet.json", append, ATTACKED),
        ("results/digits/figures/cost.png", append, {"Figure: cost"}),
        ("results/digits/figures/cost.png", os.unlink, {"Figure: cost"}),
        ("results/digits/tables/main.tex", append, {"Main table"}),
        ("forget.txt", other_ids, splits(STUDY) | of_runs(STUDY, *WHOLE_RUN) | END),
    ],
    ids=lambda value: getattr(value, "__name__", None) or (value if isinstance(value, str) else ""),
)
def test_what_is_not_what_its_job_wrote_is_planned_again(study, path, damage, planned):
    damage(study.root / path)
    assert study.planned("all") == planned


def test_nothing_else_than_the_targets_is_made_again(study):
    append(study.root / "results/digits/figures/cost.png")
    append(study.root / CF / "model.safetensors")
    assert study.planned(f"{RUN}/original-all/seed0/predictions.parquet") == set()
    assert study.planned(f"{CF}/predictions.parquet") == of_runs(STUDY, "unlearn", "predict", methods=["cf"])
    done = study.snakemake("-n", "results/digits/figures/overview.pdf", "--allowed-rules", "figure")
    assert done.returncode == 0, done.stderr
    assert "made again" not in done.stderr


def test_damage_is_named_repaired_and_then_over(study):
    for name in ("cost.png", "overview.csv"):
        append(study.root / "results/digits/figures" / name)
    done = study.snakemake("all")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "it will be made again" in line]
    assert [line.split(" (sha256")[0] for line in said] == [
        f"results/digits/figures/{name}: not what its job wrote" for name in ("cost.png", "overview.csv")
    ]
    assert study.planned("all") == set()
    assert study.unlearn("verify", "results").stdout.endswith(" results read, 0 findings\n")


def test_upgrades_are_named_or_made_again(study):
    figure = "results/digits/figures/cost.pdf"
    older = {**records.read(study.root / records.record_of(figure))["libraries"], "timm": "0.1"}
    study.rewrite(figure, libraries=older)
    done = study.snakemake("-n", "all")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert "results were made with timm 0.1; installed: torch " in done.stderr
    assert "they stay (upgrades: warn)" in done.stderr
    study.run("all", "--config", "upgrades=rerun")
    assert records.read(study.root / records.record_of(figure))["libraries"]["timm"] != "0.1"
    assert study.planned("all", "--config", "upgrades=rerun") == set()
    assert "results were made with" not in study.snakemake("-n", "all").stderr


def test_a_finished_study_is_verified_and_explained(study):
    done = study.unlearn("verify", "results")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(" results read, 0 findings\n")
    lines = study.unlearn("explain", "results/digits/figures/cost.pdf").stdout.splitlines()
    assert lines[0].startswith("results/digits/figures/cost.pdf  by figure  settings ")
    (_,) = (line for line in lines if f"metrics.parquet of 3 in {RUN}  by measure" in line)
    assert "[!" not in "".join(lines).replace("[! no record]", "", 1), "but for the list of ids"
    assert any("results/digits/dataset.parquet  by dataset" in line for line in lines)
    os.unlink(study.root / CF / "history.parquet")
    done = study.unlearn("verify", "results")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, f"{CF}/history.parquet: missing: recorded, but gone")


def test_a_copy_without_times_and_without_snakemakes_memory_is_finished_too(study, tmp_path):
    """`cp -r results` to another checkout: records say what Snakemake cannot know."""
    (tmp_path / "other").mkdir()
    other = Study(tmp_path / "other")
    shutil.copytree(study.root / "results", other.root / "results", copy_function=shutil.copyfile)
    shutil.copy2(study.root / "forget.txt", other.root)  # what no job made has to keep its time
    assert other.planned("all") == set()
    path = other.root / "src/unlearn/methods/cf.py"
    path.write_text(path.read_text() + "\nANSWER = 42\n")
    assert other.planned("all") == WHOLE
    path.write_text(path.read_text().removesuffix("\nANSWER = 42\n"))
    (other.root / "tiny.yaml").write_text(SMALL.replace("analysis: {resamples: 100}", "analysis: {resamples: 200}"))
    assert other.planned("all") == analysis(STUDY)


def test_a_run_repeated_beside_the_orphans_of_a_killed_one(study):
    """The first loses its Snakemake to `kill -9` while its jobs go on."""
    shutil.rmtree(study.root / RUN)
    (study.root / "results/digits/metrics.parquet").unlink()
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "--cores", "2", "all"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(command, cwd=study.root, env=environment, **quiet)
    deadline = time.monotonic() + 120
    while not list((study.root / RUN).glob("*/seed0/.made/*.lock")):
        assert first.poll() is None
        assert time.monotonic() < deadline, "no job began"
        time.sleep(0.05)
    refused = study.snakemake("all")
    assert "LockException" in refused.stderr or "cannot be locked" in refused.stderr
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    study.run("--unlock")
    study.run("all")
    assert study.planned("all") == set()
    done = study.unlearn("verify", "results")
    assert done.returncode == 0, done.stdout
