"""What import-linter cannot say (its contracts stand in pyproject.toml): what a process loads when it runs."""

import ast
import re
import tomllib

from conftest import ROOT

from unlearn.runtime.fork_server import PRELOAD, TABLE_STAGES

HEAVY = ("torch", "timm", "pandas", "matplotlib", "sklearn", "torchattacks", "torchvision")


def test_the_snakefile_is_parsed_without_heavy_libraries(python):
    """Every job parses it, and importing torch costs seconds."""
    text = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    imports = re.findall(r"^ *(from unlearn\S* import .*|import unlearn.*)$", text, re.M)
    assert len(imports) > 5
    code = "\n".join(["import sys", *imports, f"print(*[name for name in {HEAVY} if name in sys.modules])"])
    assert python(code) == ""


def test_jobs_on_tables_run_in_a_server_without_torch():
    """The stages that the fork server treats so are those that a contract keeps free of torch."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (free,) = [c["source_modules"] for c in contracts if "torch" in c.get("forbidden_modules", ())]
    assert {f"unlearn.stages.{name}" for name in TABLE_STAGES} == {name for name in free if ".stages." in name}
    assert "torch" not in PRELOAD["tables"]


def test_fork_servers_preload_no_code_of_this_package(python):
    """They fork jobs for hours, and a job must run the sources as they are now."""
    assert not [name for names in PRELOAD.values() for name in names if name.split(".")[0] == "unlearn"]
    code = "import sys, unlearn.runtime.fork_server\nprint(*sorted(m for m in sys.modules if m.startswith('unlearn')))"
    assert python(code) == "unlearn unlearn.runtime unlearn.runtime.fork_server"


def test_the_script_of_all_rules_holds_no_logic():
    """A docstring, one import and one call."""
    (script,) = (ROOT / "workflow/scripts").glob("*.py")
    prose, load, call = ast.parse(script.read_text()).body
    assert isinstance(prose.value, ast.Constant)
    assert ast.unparse(load) == "from unlearn.runtime.runner import launch"
    assert ast.unparse(call) == "launch(snakemake)"
