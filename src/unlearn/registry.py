"""Plug-ins by name: one file in ``methods/``, ``attacks/``, ``data/``, ``metrics/`` or ``figures/``.

The file name is the registered name; nothing else has to be edited. Files are imported only when
used, so that a method's code fingerprint covers that method alone. What a plug-in *declares* (its
``Settings`` and upper-case constants) is read from the syntax tree without running the file.
"""

import ast
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from unlearn import hyper
from unlearn.hyper import ConfigError

KINDS = ("methods", "attacks", "data", "metrics", "figures")
ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Declaration:
    """What a plug-in states about itself without being imported."""

    settings: type | None
    constants: dict[str, Any]
    doc: str


def names(kind: str) -> list[str]:
    """All registered names of a kind, sorted."""
    return sorted(p.stem for p in (ROOT / kind).glob("*.py") if not p.stem.startswith("_"))


def check(kind: str, name: Any, where: str) -> None:
    """Raise ConfigError unless ``name`` is registered; ``where`` is the config key that holds it."""
    if name not in names(kind):
        raise ConfigError(f"{where}: no {kind.removesuffix('s')} named {name!r}; known are {', '.join(names(kind))}")


def load(kind: str, name: str) -> ModuleType:
    """Import the plug-in. Raises ConfigError for an unknown name."""
    check(kind, name, kind)
    return importlib.import_module(f"unlearn.{kind}.{name}")


def settings(kind: str, name: str, given: dict[str, Any]) -> Any:
    """The plug-in's own ``Settings`` instance for a stage to run with."""
    return hyper.build(load(kind, name).Settings, given, f"{kind}.{name}")


@cache
def declaration(kind: str, name: str) -> Declaration:
    """Read a plug-in's declaration from its source.

    The ``Settings`` class is executed alone, with the names of ``unlearn.hyper`` only: what it
    needs of torch belongs in functions. Raises ConfigError for an unknown name or a syntax error.
    """
    check(kind, name, kind)
    path = ROOT / kind / f"{name}.py"
    try:
        tree = ast.parse(path.read_text(), str(path))
    except SyntaxError as error:
        raise ConfigError(f"{kind}/{name}.py, line {error.lineno}: {error.msg}") from None
    found, constants = None, {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Settings":
            found = _execute(node, path)
        elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name) and target.id.isupper():
            constants[target.id] = _literal(node.value)
    return Declaration(found, constants, ast.get_docstring(tree) or "")


def _execute(node: ast.ClassDef, path: Path) -> type:
    scope = {**vars(hyper), "__name__": f"{path.parent.name}.{path.stem}"}
    try:
        exec(compile(ast.Module([node], []), str(path), "exec", dont_inherit=True), scope)
    except Exception as error:
        raise ConfigError(f"{path.parent.name}/{path.name}, Settings: {error}") from None
    return scope["Settings"]


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
