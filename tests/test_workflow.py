"""A tiny study through the real workflow, in a copy of the project."""

import shutil

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from plans import WHOLE_RUN, end, of_runs, splits
from test_template import METHOD, TEMPLATE
from tiny import TINY, Elsewhere, WarmCopy, finished

pytestmark = pytest.mark.slow

STUDY = yaml.safe_load(TINY)
RESULTS = "results/digits"
RUNS = {("original", "all"), ("retrain", "all"), ("cf", "last"), ("cf", "all"), ("salun", "last"), ("salun", "all")}


@pytest.fixture(scope="module")
def study(tmp_path_factory, shared):
    found = finished(tmp_path_factory.mktemp("project"), shared, WarmCopy)
    yield found
    found.close()


def test_every_product_is_there(study):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    figures = {f"{name}.{kind}" for name in config["figures"] for kind in ("pdf", "png", "csv")}
    assert {path.name for path in (study.root / RESULTS / "figures").glob("[!.]*")} == figures
    pages = {path.name for path in (study.root / RESULTS / "tables").glob("[!.]*")}
    assert pages == {"main.csv", "main.md", "main.tex", "verdicts.md"}
    for name in figures:
        assert (study.root / RESULTS / "figures" / name).stat().st_size > 100
    metrics = pd.read_parquet(study.root / RESULTS / "metrics.parquet")
    assert set(zip(metrics["method"], metrics["scope"], strict=True)) == RUNS
    assert metrics["value"].notna().all()


def test_reference_is_at_zero_gap(study):
    found = pd.read_parquet(study.root / RESULTS / "comparisons.parquet")
    assert (found.loc[found["method"] == "retrain", "gap"] == 0).all()
    assert (found.loc[found["method"] == "original", "gap"] != 0).any()


def test_nothing_reruns_without_a_change(study):
    assert study.planned("all") == set()
    for path in study.root.rglob("*.py"):
        path.touch()
    assert study.planned("all") == set()
    assert study.planned("all", "--workflow-profile", "none") == set()


def test_deleted_figure_is_redrawn_alone(study):
    (study.root / RESULTS / "figures/cost.pdf").unlink()
    assert study.planned("all") == {"Figure: cost"}
    study.run("results/digits/figures/cost.pdf")
    assert study.planned("all") == set()


def test_it_runs_from_another_folder(study, tmp_path):
    """Overlay, data and results lie in the user's folder. Files with the names of libraries do not matter, there or
    beside the Snakefile."""
    elsewhere = Elsewhere(tmp_path, study)
    for part in ("results", ".snakemake"):
        shutil.copytree(study.root / part, tmp_path / part)
    for name in ("json", "jsonschema", "packaging", "timm", "torch", "unlearn"):
        for folder in (tmp_path, study.root):
            (folder / f"{name}.py").write_text("raise ImportError('of the user')")
    assert elsewhere.planned("all") == set()
    assert study.planned("all", "--directory", str(tmp_path)) == set()
    (tmp_path / RESULTS / "splits/listed.parquet").unlink()
    elsewhere.run(f"{RESULTS}/splits/listed.parquet")
    assert elsewhere.started() == splits(STUDY)
    assert elsewhere.unlearn("verify", RESULTS).returncode == 0
    assert elsewhere.unlearn("explain", f"{RESULTS}/figures/cost.pdf").returncode == 0
    assert elsewhere.unlearn("export", RESULTS, "digits.tar.gz", "--config", "tiny.yaml").returncode == 0
    assert elsewhere.planned("all") == set()


def test_a_method_is_added_with_one_file_and_one_line(study):
    """The template, as the guide says; then it is taken away again."""
    added = shutil.copy(TEMPLATE, study.root / METHOD)
    with study.edited("tiny.yaml", "salun]", f"salun, {added.stem}]"):
        study.run("all")
        longer = STUDY | {"methods": [*STUDY["methods"], added.stem]}
        assert study.started() == of_runs(longer, *WHOLE_RUN, methods=[added.stem]) | end(longer)
        assert added.stem in set(pd.read_csv(study.root / RESULTS / "tables/main.csv")["method"])
    added.unlink()
    study.run("all")
    assert study.started() == end(STUDY)
    assert added.stem not in set(pd.read_csv(study.root / RESULTS / "tables/main.csv")["method"])
