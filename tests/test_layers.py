"""Who imports whom: the arrows of the design, and what never loads torch or Snakemake."""

import ast

import pytest
from conftest import ROOT

from unlearn.fingerprint import Sources

SOURCES = Sources(ROOT / "src", ROOT / "workflow/scripts")
CONFIG = tuple(
    f"unlearn.{name}" for name in ("study", "provenance", "registry", "hyper", "audit", "schema", "sources", "warm")
)
STAGES_OF_TABLES = ("measure", "collect", "analyse", "gate", "report", "split", "ulira")

# Module or package → what of this package it may import, besides itself.
PLUGIN = {"hyper"}
MODEL = {"hyper", "images", "job", "models", "scopes", "training"}
ALLOWED = {
    "hyper": set(),
    "schema": set(),
    "files": set(),
    "cards": {"files"},
    "tables": {"failures", "files", "schema"},
    "provenance": set(),
    "slicing": set(),
    "sources": {"slicing"},
    "ledger": {"files", "provenance"},
    "audit": {"ledger"},
    "lineage": {"ledger"},
    "verify": {"audit", "failures", "ledger", "provenance", "schema", "sources", "tables"},
    "export": {"ledger"},
    "__main__": {"export", "lineage", "sources", "verify"},
    "warm": {"files", "launch"},
    "progress": {"files"},
    "failures": {"files"},
    "launch": {"cards", "failures", "ledger", "progress", "provenance", "sources", "warm"},
    "registry": {"hyper"},
    "configfile": {"hyper"},
    "study": {"configfile", "hyper", "provenance", "registry", "schema"},
    "cost": set(),
    "models": {"smallvit"},
    "smallvit": set(),
    "images": {"schema", "tables"},
    "scopes": set(),
    "checkpoint": {"failures", "files", "models"},
    "job": {"cost", "images", "models", "progress"},
    "prefix": {"scopes", "job", "models"},
    "training": {"failures", "scopes", "hyper", "job", "models", "prefix"},
    "methods": MODEL,
    "attacks": {*PLUGIN, "robustness"},
    "radii": {"schema", "tables"},
    "data": PLUGIN,
    "robustness": {"images", "progress"},
    "threat_norms": set(),
    "activations": {"images", "threat_norms"},
    "metrics": set(),
    "analysis": {"schema"},
    "figures": set(),
    "main_table": {"figures"},
    "verdicts": {"schema"},
    "stages": {
        *("tables", "provenance", "registry", "images", "models", "checkpoint", "job", "cost", "training", "hyper"),
        *("failures", "progress", "schema"),
        *("radii", "robustness", "activations", "threat_norms", "scopes", "data", "metrics", "analysis", "figures"),
        *("main_table", "verdicts"),
    },
}


def part(module):
    """The layer of a module: "unlearn.methods.rl" → "methods"."""
    return module.split(".")[1] if "." in module else ""


def imports(path):
    """Top-level names of everything a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("module", sorted(m for m in SOURCES.modules if part(m)))
def test_arrows_point_one_way(module):
    found = {part(name) for name in SOURCES.imports(module)} - {"", part(module)}
    assert part(module) in ALLOWED, "where does this module stand?"
    assert found <= ALLOWED[part(module)]


@pytest.mark.parametrize("kind", ["methods", "attacks", "data", "metrics", "figures"])
def test_plug_ins_stand_alone(kind):
    """None imports another of its kind, but for what is built from another, such as SalUn from RL."""
    pairs = {
        (module, name)
        for module in SOURCES.modules
        if module.startswith(f"unlearn.{kind}.")
        for name in SOURCES.imports(module) - {module}
        if name.startswith(f"unlearn.{kind}.")
    }
    assert pairs <= {
        ("unlearn.methods.salun", "unlearn.methods.rl"),
        ("unlearn.attacks.autoattack", "unlearn.attacks.cascade"),
        ("unlearn.attacks.autoattack", "unlearn.attacks.square"),
        ("unlearn.metrics.class_fairness", "unlearn.metrics.class_accuracy"),
        ("unlearn.metrics.class_robustness", "unlearn.metrics.class_accuracy"),
        ("unlearn.metrics.mia_efficacy", "unlearn.metrics.class_accuracy"),
        ("unlearn.metrics.residual", "unlearn.metrics.robust_accuracy"),
    }


def test_the_package_knows_nothing_of_snakemake():
    assert not [module for module, path in SOURCES.modules.items() if "snakemake" in imports(path)]


def test_scripts_hold_no_logic():
    """A docstring, one import, one call."""
    for script in sorted((ROOT / "workflow/scripts").glob("*.py")):
        prose, load, call = ast.parse(script.read_text()).body
        assert isinstance(prose.value, ast.Constant), script
        assert ast.unparse(load) == "from unlearn.runtime.runner import launch", script
        assert ast.unparse(call).startswith("launch("), script


def test_config_is_checked_without_torch(python):
    """Importing it would cost seconds at each parse of the Snakefile, that is, in each job."""
    heavy = ("torch", "timm", "pandas", "matplotlib", "sklearn", "torchattacks", "torchvision")
    printed = python(f"import sys, {', '.join(CONFIG)}\nprint(*[m for m in {heavy} if m in sys.modules])")
    assert printed == ""


def test_tables_are_measured_without_torch(python):
    wanted = [
        name
        for name in SOURCES.modules
        if part(name) in ("metrics", "analysis", "figures", "main_table")
        or (part(name) == "stages" and name.endswith(STAGES_OF_TABLES))
    ]
    assert len(wanted) > len(STAGES_OF_TABLES)
    assert python(f"import sys, {', '.join(wanted)}\nprint('torch' in sys.modules)") == "False"


def test_warm_processes_preload_no_code_of_this_package(python):
    """They fork jobs for hours; a job must run the sources as they are now."""
    from unlearn.runtime.fork_server import PRELOAD

    assert not [name for names in PRELOAD.values() for name in names if name.split(".")[0] == "unlearn"]
    loaded = python("import sys, unlearn.warm\nprint(*sorted(m for m in sys.modules if m.startswith('unlearn')))")
    assert loaded == "unlearn unlearn.runtime.fork_server"
