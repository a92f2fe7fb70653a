"""Fingerprints: one text for all the code that makes a result.

Snakemake does not see edits in imported modules and compares scripts by time stamp. A fingerprint is a digest of
syntax trees without comments and docstrings, so ``touch``, a checkout and prose leave it as it is. It covers a stage,
the plug-in that the stage loads, and every module of this package that they import, whole.

Two things are left out. A module that is loaded by name (a plug-in, the declaration of a table) cannot be seen in the
imports, so the caller names it as a root. The top ``unlearn/__init__.py`` holds the version alone.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "unlearn"


class StaleCode(RuntimeError):
    """The code was edited after the job was planned."""


class Sources:
    """The modules of the package in ``folder``; by default of the package that runs."""

    def __init__(self, folder: Path = Path(__file__).parent):
        self.folder = Path(folder)

    def digest(self, *roots: str) -> str:
        """The fingerprint of the modules ``roots``, followed by their names, so that a job can compute it again.

        Raises KeyError for a module that does not exist, and SyntaxError naming the file for one that is not Python.
        """
        total = hashlib.sha256()
        for module in sorted(self.closure(*roots)):
            total.update(f"{module} {self._parsed(module)[0]}\n".encode())
        return " ".join([total.hexdigest()[:16], *roots])

    def verify(self, digest: str) -> None:
        """Raise StaleCode unless the code still has the fingerprint that the job was planned with."""
        _, *roots = digest.split()
        if self.digest(*roots) != digest:
            raise StaleCode("the code was edited after this run was started; start it again")

    def closure(self, *roots: str) -> set[str]:
        """The roots and all modules of this package that they import, directly or not, at any place in the code."""
        found: set[str] = set()
        queue = [module for root in roots for module in self._loaded(root)]
        for root in roots:
            self._path(root)
        while queue:
            module = queue.pop()
            if module not in found:
                found.add(module)
                queue += self._parsed(module)[1]
        return found

    def _path(self, module: str) -> Path:
        base = self.folder.joinpath(*module.split(".")[1:])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if module.startswith(f"{PACKAGE}.") and path.is_file():
                return path
        raise KeyError(module)

    @cache  # noqa: B019 (one instance per process)
    def _parsed(self, module: str) -> tuple[str, frozenset[str]]:
        """The digest of a module, and the modules that it imports."""
        path = self._path(module)
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        except SyntaxError as error:
            raise SyntaxError(f"{path}, line {error.lineno}: {error.msg}") from None
        home = module if path.name == "__init__.py" else module.rpartition(".")[0]
        imported = frozenset(name for path in _imports(tree, home) for name in self._loaded(path))
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if documented and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported

    def _loaded(self, path: str) -> list[str]:
        """The modules of this package that importing a dotted path runs."""
        parts = path.split(".")
        steps = [".".join(parts[:depth]) for depth in range(2, len(parts) + 1)] if parts[0] == PACKAGE else []
        return [module for module in steps if self._exists(module)]

    def _exists(self, module: str) -> bool:
        try:
            return bool(self._path(module))
        except KeyError:
            return False


def _imports(tree: ast.Module, home: str) -> Iterator[str]:
    """The dotted paths that a module's imports may run, for a module in the package ``home``."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                parts = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
                source = ".".join([*parts, *([node.module] if node.module else [])])
                yield from (f"{source}.{alias.name}" for alias in node.names)
