"""A tiny study through the real workflow, in a copy of the project."""

import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from tiny import TINY, Copy

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("study")]

RUNS = {("original", "all"), ("retrain", "all"), ("cf", "last"), ("cf", "all"), ("salun", "last"), ("salun", "all")}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Copy:
    """Made in batches of runs, as large studies are."""
    copy = Copy(tmp_path_factory.mktemp("project"), TINY)
    copy.run("--batch", "collect=1/2", "results/digits/metrics.parquet")
    assert len(list(copy.root.glob("results/digits/runs/**/metrics.parquet"))) in (3, 4)  # half, and exact retraining
    copy.run("--batch", "collect=2/2", "results/digits/metrics.parquet")
    copy.run("all")
    return copy


def test_every_product_is_there(study):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    figures = {f"{name}.{kind}" for name in config["figures"] for kind in ("pdf", "png", "csv")}
    assert {path.name for path in (study.root / "results/digits/figures").glob("[!.]*")} == figures
    pages = {path.name for path in (study.root / "results/digits/tables").glob("[!.]*")}
    assert pages == {"main.csv", "main.md", "main.tex", "verdicts.md"}
    for name in figures:
        assert (study.root / "results/digits/figures" / name).stat().st_size > 100
    metrics = pd.read_parquet(study.root / "results/digits/metrics.parquet")
    assert set(zip(metrics["method"], metrics["scope"], strict=True)) == RUNS
    assert metrics["value"].notna().all()


def test_reference_is_at_zero_gap(study):
    found = pd.read_parquet(study.root / "results/digits/comparisons.parquet")
    assert (found.loc[found["method"] == "retrain", "gap"] == 0).all()
    assert (found.loc[found["method"] == "original", "gap"] != 0).any()


def test_nothing_reruns_without_a_change(study):
    assert study.planned("all") == set()
    for path in study.root.rglob("*.py"):
        path.touch()
    assert study.planned("all") == set()


def test_deleted_figure_is_redrawn_alone(study):
    (study.root / "results/digits/figures/cost.pdf").unlink()
    assert study.planned("all") == {"Figure: cost"}
    study.run("results/digits/figures/cost.pdf")
    assert study.planned("all") == set()


def test_figures_and_metrics_run_without_torch(study, tmp_path):
    """A jammed torch stops every stage that imports it."""
    jam = tmp_path / "torch"
    jam.mkdir()
    (jam / "__init__.py").write_text("raise ImportError('jammed')")
    source = ROOT / "src"
    script = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from unlearn.stages import analyse, collect, measure, report, split\n"
        "import importlib, unlearn.config.plugins as r\n"
        "[r.load(kind, name) for kind in ('metrics', 'figures') for name in r.names(kind)]\n"
        "try: import torch\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(source)], capture_output=True, text=True)
    assert done.stdout.strip() == "jammed", done.stderr


def test_guide_adds_a_method_with_one_file_and_one_line(study):
    guide = (ROOT / "docs/adding-a-method.md").read_text()
    path, code = re.search(r"Write `(src/.*?)`:\n\n```python\n(.*?)```", guide, re.S).groups()
    line = re.search(r"```yaml\n(methods: .*?)\n```", guide, re.S)[1]
    added = study.root / path
    added.write_text(code)
    name = yaml.safe_load(line)["methods"][-1]
    config = study.root / "tiny.yaml"
    config.write_text(TINY.replace("salun]", f"salun, {name}]"))
    try:
        planned = study.planned("all")
        made = {job for job in planned if job.startswith(("Unlearn", "Pretrain", "Retrain"))}
        assert made == {f"Unlearn: {name} on {scope} layers of net, random10, seed 0" for scope in ("last", "all")}
        study.run("all")
        assert name.upper() in (study.root / "results/digits/tables/main.md").read_text()
        assert name in (study.root / "results/digits/figures/overview.csv").read_text()
    finally:
        added.unlink()
        config.write_text(TINY)
    study.run("all")
    assert name.upper() not in (study.root / "results/digits/tables/main.md").read_text()
