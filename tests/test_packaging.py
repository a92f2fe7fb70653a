"""pyproject.toml is the one source of versions; environment.yml and requirements.txt follow it."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from unlearn import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMES_IN_CONDA = {"torch": "pytorch"}


def bounds() -> dict[str, str]:
    """Package → version bound, of the project and of its extras."""
    listed = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    return {r.name: str(r.specifier) for r in map(Requirement, listed)}


def pins() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([\w.-]+)==(\S+)( ;.*)?", line).groups()[:2]
            found.setdefault(name, []).append(version)
    return found


def test_environment_repeats_the_bounds():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = next(entry for entry in environment if isinstance(entry, dict))["pip"]
    listed = [*(entry for entry in environment if isinstance(entry, str)), *by_pip]
    found = {r.name: str(r.specifier) for r in map(Requirement, listed) if r.name not in ("python", "pip")}
    assert found == {NAMES_IN_CONDA.get(name, name): bound for name, bound in bounds().items()}
    assert f"python{PROJECT['requires-python']}" in environment


def test_pins_meet_the_bounds():
    pinned = pins()
    for name, bound in bounds().items():
        assert pinned[name]
        assert all(Requirement(f"{name}{bound}").specifier.contains(v) for v in pinned[name]), name


def test_no_address_of_an_index_and_no_requests_of_2021():
    text = (ROOT / "requirements.txt").read_text()
    assert "//" not in text
    assert all(Requirement("requests>=2.32.4").specifier.contains(version) for version in pins()["requests"])


def test_every_promised_python_is_tested():
    """By .ci/run, if the machine has it."""
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c]
    promised = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert named == [version for version in (f"3.{minor}" for minor in range(30)) if promised.contains(version)]
    assert f"for version in {' '.join(named)};" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("name", sorted(bounds()))
def test_installed_version_meets_the_bound(name):
    assert Requirement(f"{name}{bounds()[name]}").specifier.contains(importlib.metadata.version(name))


@pytest.mark.slow
def test_a_wheel_holds_every_module_the_marker_of_types_the_licence_and_the_command(tmp_path):
    for part in ("src", "pyproject.toml", "README.md", "LICENSE"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, tmp_path / part)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(command, cwd=tmp_path, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src/unlearn").rglob("*.py")} | {
        "unlearn/py.typed"
    }
    about = f"unlearn-{__version__}.dist-info"
    assert zipfile.ZipFile(wheel).read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert b"unlearn = unlearn.cli:script" in zipfile.ZipFile(wheel).read(f"{about}/entry_points.txt")


def test_the_citation_is_of_this_version_and_refers_to_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (__version__, PROJECT["license"])
    assert "arXiv:2504.13610" in [known["value"] for known in citation["references"][0]["identifiers"]]
