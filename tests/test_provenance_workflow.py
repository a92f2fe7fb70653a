"""What happens to a finished study whose files were changed, copied or left by a killed run."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from plans import COMPOSITION, WHOLE_RUN, analysis, end, of_runs, splits
from tiny import TINY, Copy, WarmCopy, finished

from unlearn.provenance import records

pytestmark = pytest.mark.slow

RUN = "results/digits/runs/net/listed"
CF = f"{RUN}/cf-all/seed0"
STUDY = yaml.safe_load(TINY)
ALL_LAYERS = STUDY | {"scopes": ["all"]}
END = end(STUDY)
WHOLE = of_runs(STUDY, *WHOLE_RUN, methods=["cf"]) | END  # of both scopes
OF_RUN = of_runs(ALL_LAYERS, *WHOLE_RUN, methods=["cf"]) | END
MEASURED = of_runs(ALL_LAYERS, "measure", methods=["cf"]) | END
PREDICTED = of_runs(ALL_LAYERS, "predict", methods=["cf"]) | MEASURED
ATTACKED = {job for job in OF_RUN if job.startswith("Attack by pgd:")} | MEASURED


class Study(WarmCopy):
    def rewrite(self, output, **changes):
        """Change the record of a result."""
        path = self.root / records.record_of(output)
        records.write(path, {**records.read(path), **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory, shared):
    found = finished(tmp_path_factory.mktemp("project"), shared, Study)
    yield found
    found.close()


@pytest.fixture
def study(made, shared):
    """The finished study, put back as it was before."""
    yield made
    for part in ("results", ".snakemake", "forget.txt", "src"):
        subprocess.run(["rm", "-rf", made.root / part], check=True)
        subprocess.run(["cp", "-a", shared / "study" / part, made.root / part], check=True)


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
        (f"{CF}/history.parquet", append, OF_RUN),
        (f"{CF}/model.safetensors", older_copy, OF_RUN),
        (f"{CF}/.made/adversarial-pgd.parquet.json", append, ATTACKED),
        ("results/digits/figures/cost.png", append, {"Figure: cost"}),
        ("results/digits/figures/cost.png", os.unlink, {"Figure: cost"}),
        ("results/digits/tables/main.tex", append, {"Main table"}),
        ("forget.txt", other_ids, splits(STUDY) | COMPOSITION | of_runs(STUDY, *WHOLE_RUN) | END),
        ("forget.txt", os.utime, set()),
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
    assert study.planned(f"{CF}/predictions.parquet") == of_runs(ALL_LAYERS, "unlearn", "predict", methods=["cf"])
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
    (_,) = (line for line in lines if f"metrics.parquet of 6 in {RUN}  by measure" in line)
    assert "[!" not in "".join(lines)
    assert any("results/digits/dataset.parquet  by dataset" in line for line in lines)
    os.unlink(study.root / CF / "history.parquet")
    done = study.unlearn("verify", "results")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, f"{CF}/history.parquet: missing: recorded, but gone")


def test_a_copy_without_times_and_without_snakemakes_memory_is_finished_too(study, tmp_path):
    """`cp -r results` to another checkout: records say what Snakemake cannot know."""
    (tmp_path / "other").mkdir()
    other = Copy(tmp_path / "other", TINY)
    shutil.copytree(study.root / "results", other.root / "results", copy_function=shutil.copyfile)
    shutil.copyfile(study.root / "forget.txt", other.root / "forget.txt")
    assert other.planned("all") == set()
    path = other.root / "src/unlearn/methods/cf.py"
    path.write_text(path.read_text() + "\nANSWER = 42\n")
    assert other.planned("all") == WHOLE
    path.write_text(path.read_text().removesuffix("\nANSWER = 42\n"))
    (other.root / "tiny.yaml").write_text(TINY.replace("analysis: {resamples: 100}", "analysis: {resamples: 200}"))
    assert other.planned("all") == analysis(STUDY)


def test_results_of_other_settings_put_in_their_place_are_made_again(study):
    """Snakemake's memory is of those that it made, and says that they are current."""
    study.rewrite(f"{CF}/model.safetensors", settings={"lr": 3})
    assert study.planned("all") == OF_RUN
    said = study.snakemake("-n", "all").stderr
    assert f"{CF}/model.safetensors: not made by the code, settings and inputs of now; it will be made again" in said


def test_touch_vouches_for_results_as_they_are(study):
    """After it nobody finds fault with them, whether or not Snakemake remembers: other code, settings, ids, bytes."""
    source = study.root / "src/unlearn/methods/cf.py"
    source.write_text(source.read_text() + "\nANSWER = 42\n")
    other_ids(study.root / "forget.txt")
    append(study.root / "results/digits/figures/cost.png")
    with study.edited("tiny.yaml", "analysis: {resamples: 100}", "analysis: {resamples: 200}"):
        assert WHOLE | splits(STUDY) < study.planned("all")
        done = study.snakemake("--touch", "all")
        assert done.returncode == 0, done.stderr
        (said,) = (line for line in done.stderr.splitlines() if "cost.png" in line and "not what its job wrote" in line)
        assert said.endswith("it is accepted as it is (--touch)")
        assert study.planned("all") == set()
        assert study.unlearn("verify", "results").stdout.endswith(" results read, 0 findings\n")
        shutil.rmtree(study.root / ".snakemake/metadata")
        assert study.planned("all") == set()
    assert study.planned("all") == analysis(STUDY)


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
