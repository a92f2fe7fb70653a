"""What the documents say must exist, and what examples show must come out."""

import doctest
import importlib
import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unlearn.config import plugins

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_studies_and_make_targets_exist(page):
    text = page.read_text()
    for study in re.findall(r"studies/[\w-]+\.yaml", text):
        assert (ROOT / study).is_file() or study == "studies/NAME.yaml", study
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"`make ([\w-]+)", text):
        assert target in targets, target


@pytest.mark.parametrize(
    "path",
    ["docs/methods.md", "docs/metrics.md", "docs/config.md", "docs/scopes.md", "workflow/schemas/config.schema.json"],
)
@pytest.mark.slow
def test_what_is_generated_is_current(python, path):
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); from generate import GENERATED"
    assert python(f"{code}; print(GENERATED[{path!r}]())") == (ROOT / path).read_text().strip(), "run `make generated`"


def test_every_metric_is_on_its_page():
    page = (ROOT / "docs/metrics.md").read_text()
    for file in plugins.names("metrics"):
        assert f"\n## {file}\n" in page
        for name in plugins.load("metrics", file).METRICS:
            assert page.count(f"\n| `{name}` | ") == 1, name


def test_the_architecture_page_draws_the_layers_that_are_checked():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    block = re.search(r"```\n(cli .*?)```", (ROOT / "docs/architecture.md").read_text(), re.S)[1]
    assert [re.split(r" {2,}", line)[0] for line in block.splitlines() if line] == layers


SOURCES = sorted((ROOT / "src").rglob("*.py"))
EXAMPLES = {path: len(re.findall(r"^ +>>> ", path.read_text("utf-8"), re.M)) for path in SOURCES}


@pytest.mark.parametrize("path", list(filter(EXAMPLES.get, EXAMPLES)), ids=lambda path: path.stem)
def test_examples_come_out(path):
    module = importlib.import_module(".".join(path.relative_to(ROOT / "src").with_suffix("").parts))
    failed, tried = doctest.testmod(module, extraglobs={"np": np, "pd": pd})
    assert (failed, tried) == (0, EXAMPLES[path])
