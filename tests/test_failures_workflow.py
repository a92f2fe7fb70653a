"""A method that diverges, through the real workflow: its run is a hole with a reason, the rest is as without it."""

import pandas as pd
import pytest
import yaml
from plans import WHOLE_RUN, end, of_runs
from tiny import TINY, Copy

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("failures")]

STUDY = yaml.safe_load(TINY) | {
    "methods": ["cf", "ga"],
    "scopes": ["all"],
    "attacks": ["pgd"],
    "figures": ["cost", "overview"],
}
WILD, MENDED = "lr: 1.0e+30", "lr: 0.0001"
STUDY["settings"]["archs"]["net"]["methods"] = {"cf": {"epochs": 1}, "ga": {"epochs": 2, "batch_size": 16, "lr": 1e30}}
GA = {"arch": "net", "forget": "random10", "method": "ga", "scope": "all", "seed": 0}
TIMES = ("seconds", "cpu_seconds", "relative_seconds")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    found = Copy(tmp_path_factory.mktemp("project"), yaml.safe_dump(STUDY))
    found.run("all")
    return found


def table(study, name, folder="results/digits"):
    return pd.read_parquet(study.root / folder / f"{name}.parquet")


def untimed(frame):
    """Without the rows of a metric that is a time."""
    return frame[~frame["metric"].isin(TIMES)].reset_index(drop=True) if "metric" in frame else frame


def test_exactly_that_run_is_missing_with_its_reason(study):
    (lost,) = table(study, "failures").to_dict("records")
    assert {key: lost[key] for key in GA} == GA
    assert lost["reason"] == "the loss is nan in epoch 1 at learning rate 1e+30"
    assert set(table(study, "metrics")["method"]) == {"original", "retrain", "cf"}


def test_pages_show_the_hole_and_the_reason(study):
    main = (study.root / "results/digits/tables/main.md").read_text().splitlines()
    (row,) = (line for line in main if "| GA |" in line)
    label, method, scope, *numbers = (cell.strip() for cell in row.strip("|").split("|"))
    assert (label, method, scope, set(numbers)) == ("tiny", "GA", "all", {"—"})
    assert sum("—" in line for line in main if line.startswith("| tiny")) == 1
    verdicts = (study.root / "results/digits/tables/verdicts.md").read_text()
    assert f"| tiny | random10 | ga | all | 0 | {table(study, 'failures')['reason'][0]} |" in verdicts


def test_other_cells_are_those_of_a_study_without_it(study):
    """Made from nothing beside it; bit for bit, but for times."""
    study.run("all", "--config", "study=without", "methods=[cf]")
    for name in ("metrics", "comparisons", "correlations", "conjectures", "gates"):
        here, there = (untimed(table(study, name, folder)) for folder in ("results/digits", "results/without"))
        pd.testing.assert_frame_equal(here, there, check_exact=True)
    assert table(study, "failures", "results/without").empty


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
    assert set(table(study, "metrics")["method"]) == {"original", "retrain", "cf", "ga"}
    assert "—" not in (study.root / "results/digits/tables/main.md").read_text()


def test_models_that_a_study_cannot_do_without_stop_it(study):
    """Pretraining and exact retraining, by the recipe of the study."""
    pretrained, retrained = (
        f"results/wild/{of}/seed0/model.safetensors" for of in ("pretrained/net", "runs/net/random10/retrain-all")
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
            ("unlearn", "net/random10/retrain-all/seed0/unlearn"),
        )
    ]
    assert not (study.root / pretrained).exists()
    assert not (study.root / retrained).exists()
