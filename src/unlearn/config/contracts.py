"""What a plug-in must hold, and what it states about itself, read from its syntax tree without running the file."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from unlearn.config import plugins
from unlearn.config import settings as vocabulary
from unlearn.config.settings import ConfigError, Section
from unlearn.config.validation import convert


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
        {"FORGET_KINDS": tuple[Literal["random", "class", "where", "files", "ids"], ...], "TUNING_GRID": dict},
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
        {
            "REQUIRES": tuple[str, ...],
            "ATTACKS": tuple[str, ...],
            "NEEDS": tuple[Literal["features", "relearning"], ...],
        },
        settings=False,
        one_of=True,
    ),
    "figures": Contract(
        {"data": ("tables", "settings"), "draw": ("frame", "settings")},
        {"NEEDS": tuple[str, ...], "MEASURED": tuple[str, ...]},
        settings=False,
    ),
}


@dataclass(frozen=True)
class Declaration:
    """What a plug-in states about itself without being imported."""

    settings: type[Section] | None
    constants: dict[str, Any]
    doc: str


@cache
def declaration(kind: str, name: str) -> Declaration:
    """Read a plug-in's declaration from its source.

    The ``Settings`` class is executed alone, with the names of ``unlearn.config.settings`` only: what it
    needs of torch belongs in functions. Raises ConfigError for an unknown name, a syntax error, and
    a file that does not hold what its kind must.
    """
    plugins.check(kind, name, kind)
    path, contract = plugins.source(kind, name), CONTRACTS[kind]
    file = f"{kind}/{name}.py" if path.parent == plugins.ROOT / kind else str(path)
    tree = _parse(path, file)
    _check_imports(tree, file)
    settings, constants, functions = None, {}, {}
    for node in tree.body:
        match node:
            case ast.ClassDef(name="Settings"):
                settings = _execute(node, file)
            case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target)):
                constants |= {target: node.value} if target.isupper() else {}
            case ast.FunctionDef():
                functions[node.name] = node
    _check_functions(functions, contract, file)
    constants = {target: _literal(value) for target, value in constants.items()}
    _check_constants(constants, contract, file)
    if contract.settings and settings is None:
        raise ConfigError(f"{file}: lacks class Settings")
    return Declaration(settings, constants, ast.get_docstring(tree) or "")


def filled(kind: str, name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings of a plug-in with its defaults; ``where`` is the config key of those that are ``given``.

    Raises ConfigError naming the key.
    """
    return convert(given, declaration(kind, name).settings, where).model_dump(mode="json")


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
        path, kind = Path(__file__).parents[2].joinpath(*module.split(".")), module.split(".")[1:2]
        there = path.is_dir() or path.with_suffix(".py").is_file()
        there = there or (kind and kind[0] in plugins.KINDS and plugins.source(kind[0], path.name))
        if module.startswith("unlearn.") and not there:
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
            convert(constants[name], kind, f"{file}, {name}")


def _execute(node: ast.ClassDef, file: str) -> type[Section]:
    scope = dict(vars(vocabulary))  # its __name__ too: pydantic looks up annotations that are texts there
    # pydantic would look for descriptions in the source of that module: other lines, which Python 3.13 need not parse.
    plain = ast.parse("model_config = {'use_attribute_docstrings': False}").body
    alone = ast.ClassDef(**{**dict(ast.iter_fields(node)), "body": [*plain, *node.body]})
    try:
        exec(compile(ast.fix_missing_locations(ast.Module([alone], [])), file, "exec", dont_inherit=True), scope)
        settings = scope["Settings"]
        if issubclass(settings, Section):
            settings.model_rebuild()  # raises for such an annotation that is no name
    except Exception as error:
        raise ConfigError(f"{file}, Settings: {str(error).splitlines()[0]}") from None
    if not issubclass(settings, Section):
        raise ConfigError(f"{file}, Settings: must derive from Section or Training")
    for name, setting in settings.model_fields.items():
        if not setting.is_required():
            default = setting.get_default(call_default_factory=True)
            convert(default, Annotated[setting.annotation, setting], f"{file}, Settings.{name}")
    return settings


def _literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None
