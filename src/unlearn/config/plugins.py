"""Plug-ins by name: one file in ``methods/``, ``attacks/``, ``data/``, ``metrics/`` or ``figures/``.

The file name is the registered name; nothing else has to be edited. Files are imported only when
used, so that a method's code fingerprint covers that method alone. What a plug-in *declares* (its
``Settings``, upper-case constants and functions) is read from the syntax tree without running the file.
"""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_type_hints

from unlearn.config import settings as hyper
from unlearn.config.settings import ConfigError


@dataclass(frozen=True)
class Contract:
    """What a file of a kind must hold: ``functions`` with the names of their parameters (all, or with
    ``one_of`` at least one of them), ``constants`` and their types, and a ``Settings``; ``optional``
    constants may be there."""

    functions: dict[str, tuple[str, ...]]
    constants: dict[str, Any] = field(default_factory=dict)
    optional: dict[str, Any] = field(default_factory=dict)
    settings: bool = True
    one_of: bool = False


CONTRACTS = {
    "methods": Contract(
        {"unlearn": ("model", "context", "settings")},
        {"DATA_ROLES": tuple[Literal["retain", "forget"], ...]},
        {"FORGET_KINDS": tuple[Literal["random", "class", "ids"], ...], "TUNING_GRID": dict},
    ),
    "attacks": Contract(
        {"build": ("model", "eps", "settings")},
        {
            "THREAT_NORM": Literal["linf", "l2"],
            "CATEGORY": Literal["single", "iterative", "ensemble", "black box", "noise"],
        },
        {"AIM": Literal["fool", "recover"]},
    ),
    "data": Contract({"load": ("settings",)}),
    "metrics": Contract(
        {"compute": ("run",), "compute_relative": ("run", "references")},
        {"METRICS": Any},
        {"REQUIRES": tuple[str, ...], "ATTACKS": tuple[str, ...]},
        settings=False,
        one_of=True,
    ),
    "figures": Contract(
        {"data": ("tables", "settings"), "draw": ("frame", "settings")},
        {"NEEDS": tuple[Literal["metrics", "comparisons", "correlations"], ...], "MEASURED": tuple[str, ...]},
        settings=False,
    ),
}
KINDS = tuple(CONTRACTS)
ROOT = Path(__file__).parents[1]


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
    """Import the plug-in. Raises ConfigError for an unknown name and for a file that cannot be imported."""
    check(kind, name, kind)
    try:
        return importlib.import_module(f"unlearn.{kind}.{name}")
    except Exception as error:
        raise ConfigError(f"{kind}/{name}.py: {type(error).__name__}: {error}") from error


def settings(kind: str, name: str, given: dict[str, Any]) -> Any:
    """The plug-in's own ``Settings`` instance for a stage to run with."""
    return hyper.build(load(kind, name).Settings, given, f"{kind}.{name}")


@cache
def declaration(kind: str, name: str) -> Declaration:
    """Read a plug-in's declaration from its source.

    The ``Settings`` class is executed alone, with the names of ``unlearn.config.settings`` only: what it
    needs of torch belongs in functions. Raises ConfigError for an unknown name, a syntax error, and
    a file that does not hold what its kind must.
    """
    check(kind, name, kind)
    file, contract = f"{kind}/{name}.py", CONTRACTS[kind]
    tree = _parse(ROOT / kind / f"{name}.py", file)
    _check_imports(tree, file)
    found, constants, functions = None, {}, {}
    for node in tree.body:
        match node:
            case ast.ClassDef(name="Settings"):
                found = _execute(node, file)
            case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target)):
                constants |= {target: node.value} if target.isupper() else {}
            case ast.FunctionDef():
                functions[node.name] = node
    _check_functions(functions, contract, file)
    constants = {target: _literal(value) for target, value in constants.items()}
    _check_constants(constants, contract, file)
    if contract.settings and found is None:
        raise ConfigError(f"{file}: lacks class Settings")
    return Declaration(found, constants, ast.get_docstring(tree) or "")


def _parse(path: Path, file: str) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno}: {error.msg}") from None
    except (ValueError, OSError) as error:  # bytes that are no text, or nulls in it
        raise ConfigError(f"{file}: {error}") from None


def _check_imports(tree: ast.Module, file: str) -> None:
    """Of this package alone: the process that parses the Snakefile need not have the libraries of jobs."""
    for module, line in _imported(tree):
        path = Path(__file__).parents[2].joinpath(*module.split("."))
        if module.startswith("unlearn.") and not path.is_dir() and not path.with_suffix(".py").is_file():
            raise ConfigError(f"{file}, line {line}: there is no module {module}")


def _imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in tree.body:
        match node:
            case ast.Import():
                yield from ((alias.name, node.lineno) for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module, node.lineno


def _check_functions(functions: dict[str, ast.FunctionDef], contract: Contract, file: str) -> None:
    wanted = {name: f"{name}({', '.join(parameters)})" for name, parameters in contract.functions.items()}
    missing = [text for name, text in wanted.items() if name not in functions]
    if len(missing) > (len(wanted) - 1 if contract.one_of else 0):
        raise ConfigError(f"{file}: lacks function {' or '.join(missing) if contract.one_of else missing[0]}")
    for name in wanted.keys() & functions.keys():
        taken = functions[name].args
        if ast.unparse(_bare(taken)) != ", ".join(contract.functions[name]):
            line = functions[name].lineno
            raise ConfigError(f"{file}, line {line}: {name}({ast.unparse(_bare(taken))}) must be {wanted[name]}")


def _bare(arguments: ast.arguments) -> ast.arguments:
    """The parameters without their annotations."""
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return arguments


def _check_constants(constants: dict[str, Any], contract: Contract, file: str) -> None:
    if missing := [name for name in contract.constants if name not in constants]:
        raise ConfigError(f"{file}: lacks {missing[0]}")
    for name, kind in (contract.constants | contract.optional).items():
        if name in constants and kind is not Any and constants[name] is None:
            raise ConfigError(f"{file}, {name}: must be written out, it is read without running the file")
        if name in constants:
            hyper.convert(constants[name], kind, f"{file}, {name}")


def _execute(node: ast.ClassDef, file: str) -> type:
    scope = dict(vars(hyper))  # its __name__ too: dataclasses look up annotations that are texts there
    try:
        exec(compile(ast.Module([node], []), file, "exec", dont_inherit=True), scope)
        found = scope["Settings"]
        hints = get_type_hints(found, globalns=scope, include_extras=True)
    except Exception as error:
        raise ConfigError(f"{file}, Settings: {error}") from None
    if "__dataclass_params__" not in vars(found) or not found.__dataclass_params__.frozen:
        raise ConfigError(f"{file}, Settings: must be a dataclass with frozen=True")
    for setting in fields(found):
        if setting.default is not MISSING:
            hyper.convert(setting.default, hints[setting.name], f"{file}, Settings.{setting.name}")
    return found


def _literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None
