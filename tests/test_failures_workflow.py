"""A method that diverges, through the real workflow: its run is a hole with a reason, the rest is as without it."""

import shutil

import pandas as pd
import pytest
import yaml
from plans import WHOLE_RUN, end, of_runs
from tiny import TINY, WarmCopy, finished

pytestmark = pytest.mark.slow

WILD, MENDED = "lr: 1.0e+30", "lr: 0.0001"
OLD = "salun: {epochs: 1, batch_size: 256}"
STUDY = yaml.safe_load(TINY) | {"methods": ["cf", "salun", "ga"]}
GA = {"arch": "net", "forget": "listed", "method": "ga", "seed": 0}
TIMES = ("seconds", "cpu_seconds", "relative_seconds")


@pytest.fixture(scope="module")
def study(tmp_path_factory, shared):
    """The finished study, put aside, and with one more method."""
    found = finished(tmp_path_factory.mktemp("project"), shared, WarmCopy)
    shutil.copytree(found.root / "results/digits", found.root / "without")
    overlay = TINY.replace("salun]", "salun, ga]").replace(OLD, f"{OLD}, ga: {{epochs: 2, batch_size: 16, {WILD}}}")
    (found.root / "tiny.yaml").write_text(overlay)
    found.run("all")
    yield found
    found.close()


def table(study, name, folder="results/digits"):
    return pd.read_parquet(study.root / folder / f"{name}.parquet")


def untimed(frame):
    """Without the rows of a metric that is a time."""
    return frame[~frame["metric"].isin(TIMES)].reset_index(drop=True) if "metric" in frame else frame


def test_exactly_its_runs_are_missing_with_their_reason(study):
    reason = "the loss is nan in epoch 1 at learning rate 1e+30"
    lost = table(study, "failures").to_dict("records")
    assert lost == [GA | {"scope": scope, "reason": reason} for scope in ("last", "all")]
    assert set(table(study, "metrics")["method"]) == {"original", "retrain", "cf", "salun"}


def test_pages_show_the_hole_and_the_reason(study):
    rows = pd.read_csv(study.root / "results/digits/tables/main.csv")
    assert set(rows.loc[rows["mean"].isna(), "method"]) == {"ga"}
    verdicts = (study.root / "results/digits/tables/verdicts.md").read_text()
    assert verdicts.count(table(study, "failures")["reason"][0]) == 2


def test_other_cells_are_those_of_a_study_without_it(study):
    """Bit for bit, but for times."""
    for name in ("metrics", "comparisons", "correlations", "conjectures", "gates"):
        here, there = (untimed(table(study, name, folder)) for folder in ("results/digits", "without"))
        pd.testing.assert_frame_equal(here, there, check_exact=True)
    assert table(study, "failures", "without").empty


def test_the_study_is_finished_and_verified(study):
    assert study.planned("all") == set()
    done = study.unlearn("verify", "results")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(" results read, 0 findings\n")


def test_a_mended_rate_remakes_that_run_and_what_follows(study):
    with study.edited("tiny.yaml", WILD, MENDED):
        assert study.planned("all") == of_runs(STUDY, *WHOLE_RUN, methods=["ga"]) | end(STUDY)
        study.run("all")
    assert table(study, "failures").empty
    assert set(table(study, "metrics")["method"]) == {"original", "retrain", "cf", "salun", "ga"}


def test_models_that_a_study_cannot_do_without_stop_it(study):
    """Pretraining and exact retraining, by the recipe of the study."""
    pretrained, retrained = (
        f"results/wild/{of}/seed0/model.safetensors" for of in ("pretrained/net", "runs/net/listed/retrain-all")
    )
    with study.edited("tiny.yaml", "lr: 0.05", WILD):
        done = study.snakemake(pretrained, retrained, "--keep-going", "--config", "study=wild")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = sorted(line.strip() for line in done.stderr.splitlines() if "Diverged" in line)
    assert said == [
        f"{job}: Diverged: the loss is nan in epoch 1 at learning rate 1e+30 (logs/wild/{log}.log)"
        for job, log in (
            ("seed0", "pretrained/net/seed0"),
            ("unlearn", "net/listed/retrain-all/seed0/unlearn"),
        )
    ]
    assert not (study.root / pretrained).exists()
    assert not (study.root / retrained).exists()
