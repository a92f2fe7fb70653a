"""The template of a method, used as the guide says and tested like any method; test_workflow.py runs it in a study."""

import shutil
import subprocess
import sys
from xml.etree import ElementTree

import project
import pytest
from conftest import ROOT
from tiny import TINY, Copy

TEMPLATE = ROOT / "docs/template/method.py"
METHOD = "src/unlearn/methods/ascent.py"


@pytest.fixture(scope="module")
def contributor(tmp_path_factory):
    """A copy of the project whose tiny study runs the template."""
    copy = Copy(tmp_path_factory.mktemp("project"), TINY.replace("methods: [cf, salun]", "methods: [ascent]"))
    shutil.copy(TEMPLATE, copy.root / METHOD)
    return copy


def test_the_guide_shows_the_template():
    page = (ROOT / "docs/adding-a-method.md").read_text()
    declared = TEMPLATE.read_text().partition("# The images")[2]
    assert declared
    assert f"```python\n# The images{declared}```\n" in page
    assert f"cp {TEMPLATE.relative_to(ROOT)} {METHOD}\n" in page


@pytest.mark.slow
def test_the_template_passes_the_tests_of_every_method(contributor, tmp_path):
    for part in ("tests", "benchmarks", "pyproject.toml"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, contributor.root / part)
    report = tmp_path / "report.xml"
    names = ["tests/test_methods.py", "tests/test_plugins.py", "-k", "ascent", "--junit-xml", str(report)]
    command = [sys.executable, "-m", "pytest", "-q", *names]
    done = subprocess.run(command, cwd=contributor.root, env=project.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert int(suite.get("tests")) >= 20
    assert suite.get("skipped") == "0"
