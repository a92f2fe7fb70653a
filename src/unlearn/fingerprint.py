"""Fingerprints: one text for all the code that makes a result.

Snakemake does not see edits in imported modules and compares scripts by time stamp. A fingerprint covers a stage, the
plug-in that the stage loads, and every module of this package that they import, whole. It is a digest of syntax trees
without statements that do nothing (docstrings, ``pass``), so that comments, docstrings, ``touch`` and a checkout leave
it as it is.

A module that is imported by a computed name (a plug-in, the declaration of a table) cannot be seen, so the caller names
it as a root. The top ``unlearn/__init__.py`` is left out: it holds the version alone.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from unlearn.config import plugins

PACKAGE = "unlearn"


class StaleCode(RuntimeError):
    """The code was edited after the job was planned."""


class Sources:
    """The modules of the package in ``folder``, by default of the package that runs, and the plug-ins from outside."""

    def __init__(self, folder: Path = Path(__file__).parent):
        self.folder = Path(folder)
        self._module = cache(self._read)  # a job's fingerprint is of one moment

    def digest(self, *roots: str) -> str:
        """The fingerprint of the modules ``roots``, followed by their names, so that a job can compute it again.

        Raises KeyError for a root that does not exist, and SyntaxError naming file and line for a module that is
        not Python.
        """
        total = hashlib.sha256()
        for module in sorted(self.closure(*roots)):
            total.update(f"{module} {self._module(module)[0]}\n".encode())
        return " ".join([total.hexdigest()[:16], *roots])

    def verify(self, digest: str) -> None:
        """Raise StaleCode unless the code still has the fingerprint that the job was planned with."""
        _, *roots = digest.split()
        if self.digest(*roots) != digest:
            raise StaleCode("the code was edited after this run was started; start it again")

    def closure(self, *roots: str) -> set[str]:
        """The roots, the packages around them, and all modules of this package that these import, directly or not."""
        if missing := [root for root in roots if not self._path(root)]:
            raise KeyError(missing[0])
        reached: set[str] = set()
        queue = [module for root in roots for module in self._run_by(root)]
        while queue:
            if (module := queue.pop()) not in reached:
                reached.add(module)
                queue += self._module(module)[1]
        return reached

    def _read(self, module: str) -> tuple[str, set[str]]:
        """The digest of a module, and the modules of this package that it imports."""
        path = self._path(module)
        try:
            digest, imports = parsed(
                path.read_bytes(), module if path.stem == "__init__" else module.rpartition(".")[0]
            )
        except SyntaxError as error:
            raise SyntaxError(f"{path}, line {error.lineno}: {error.msg}") from None
        except ValueError as error:  # a null byte, before Python 3.12
            raise SyntaxError(f"{path}: {error}") from None
        return digest, {name for imported in imports for name in self._run_by(imported)}

    def _run_by(self, imported: str) -> list[str]:
        """The modules that importing a.b.c runs: a.b and a.b.c, where c may also be a name in the module a.b."""
        parts = imported.split(".")
        modules = [".".join(parts[:depth]) for depth in range(2, len(parts) + 1)]
        return [module for module in modules if self._path(module)]

    def _path(self, module: str) -> Path | None:
        """The file of a module. As for Python itself, a package comes before a module of its name."""
        package, *parts = module.split(".")
        base = self.folder.joinpath(*parts)
        paths = (base / "__init__.py", base.with_suffix(".py")) if package == PACKAGE and parts else ()
        own = next((path for path in paths if path.is_file()), None)
        outside = not own and package == PACKAGE and len(parts) == 2 and parts[0] in plugins.KINDS
        return plugins.source(*parts) if outside else own


@cache
def parsed(source: bytes, package: str) -> tuple[str, list[str]]:
    """The digest of a file's statements, and the dotted paths that it imports, relative ones from ``package`` on.

    ``source`` is bytes, since Python decodes them as UTF-8, or as the file declares, whatever the locale.
    """
    tree = ast.parse(source)
    return hashlib.sha256(repr(_statements(tree)).encode()).hexdigest(), [*_imports(tree, package)]


def _statements(node: Any) -> Any:
    """A syntax tree as nested lists. What is empty is left out, so that the lists are the same on every Python."""
    match node:
        case ast.JoinedStr(values=parts):  # Python 3.12.1 puts an empty text behind f"{a:{b}}"
            return ["JoinedStr", *(_statements(part) for part in parts if getattr(part, "value", None) != "")]
        case ast.AST():
            fields = [(name, _statements(value)) for name, value in ast.iter_fields(node)]
            return [type(node).__name__, *(field for field in fields if field[1] not in (None, []))]
        case list():
            return [_statements(item) for item in node if not _idle(item)]
    return node


def _idle(node: Any) -> bool:
    """Whether a statement does nothing: ``pass``, or a constant alone, such as a docstring."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package.split(".")[: package.count(".") + 2 - level] if level else []
                yield from (".".join([*above, *([module] if module else []), alias.name]) for alias in names)
