"""What the documents say must exist."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


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


def test_every_key_of_the_default_study_has_a_comment_or_a_described_parent():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert set(config) <= set(schema["properties"])


def test_generated_pages_are_current(python):
    page = (ROOT / "docs/methods.md").read_text()
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); import generate; print(generate.methods(), end='')"
    assert python(code) == page.strip()
