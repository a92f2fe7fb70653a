"""What a result was made from: fingerprints of the code, and the record every artifact carries."""

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import unlearn

LIBRARIES = ("torch", "torchvision", "timm", "torchattacks", "numpy", "pyarrow", "pandas", "scikit-learn")


def canonical(value: Any) -> Any:
    """The value with all mapping keys sorted, so that the order of keys in a file means nothing."""
    if isinstance(value, Mapping):
        return {key: canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    return value


class StaleCode(RuntimeError):
    """The sources were edited after the run that started this job was planned."""


class Sources:
    """Fingerprints over the modules that a stage reaches by imports, lazy ones included.

    Snakemake does not see edits in imported modules, and compares scripts by time stamp; a digest
    over syntax trees without comments and docstrings is immune to ``touch``, checkouts and prose.
    Imports by name (the registry's) are invisible to the tree, so the caller names those as roots.
    """

    def __init__(self, src: Path, scripts: Path):
        self.src, self.scripts = Path(src), Path(scripts)

    @cached_property
    def modules(self) -> dict[str, Path]:
        found = {}
        for path in sorted((self.src / "unlearn").rglob("*.py")):
            parts = path.relative_to(self.src).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cache  # noqa: B019 (one instance a process)
    def _parsed(self, path: Path) -> tuple[str, frozenset[str]]:
        try:
            tree = ast.parse(path.read_text(), str(path))
        except SyntaxError as error:
            raise SyntaxError(f"{path}, line {error.lineno}: {error.msg}") from None
        imports = frozenset(name for node in ast.walk(tree) for name in self._imports(node))
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if documented and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports

    def _imports(self, node: ast.AST) -> Iterable[str]:
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            candidates = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            return
        for name in candidates:
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                if (module := ".".join(parts[:depth])) in self.modules:
                    yield module

    def closure(self, *roots: str) -> dict[str, Path]:
        """Module name (or script file name) → path of all that the roots import, transitively."""
        found: dict[str, Path] = {}
        queue = list(roots)
        while queue:
            name = queue.pop()
            if name in found:
                continue
            path = self.scripts / name if name.endswith(".py") else self.modules[name]
            found[name] = path
            queue.extend(self._parsed(path)[1])
            if (package := name.rpartition(".")[0]) in self.modules:
                queue.append(package)  # which an import runs too
        return found

    def digest(self, *roots: str) -> str:
        """Fingerprint of a closure, followed by its roots, so that a job can compute it again."""
        total = hashlib.sha256()
        for name, path in sorted(self.closure(*roots).items()):
            total.update(f"{name} {self._parsed(path)[0]}\n".encode())
        return " ".join([total.hexdigest()[:16], *roots])

    def verify(self, digest: str) -> None:
        """Raise StaleCode unless the sources still have the fingerprint the job was planned with."""
        _, *roots = digest.split()
        if self.digest(*roots) != digest:
            raise StaleCode("the sources have changed since this run was started; start it again")


@cache
def commit() -> dict[str, Any]:
    """Commit of the project's checkout and whether it has uncommitted changes; empty outside git."""
    root = Path(__file__).resolve().parents[2]
    try:
        head = subprocess.run(
            ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": head.removesuffix("-dirty"), "dirty": head.endswith("-dirty")}


def digest(value: Any) -> str:
    """Short fingerprint of a JSON-like value."""
    return hashlib.sha256(json.dumps(canonical(value), sort_keys=True).encode()).hexdigest()[:16]


_job: dict[str, Any] = {"code": "", "inputs": {}}  # of the job that runs; a stage called by hand has neither


@contextmanager
def job(code: str, inputs: Mapping[str, str]) -> Iterator[None]:
    """Within it, records name the job's fingerprint and its inputs, path → sha256."""
    before = dict(_job)
    _job.update(code=code, inputs=dict(inputs))
    try:
        yield
    finally:
        _job.update(before)


def record(settings: Any = None, **more: Any) -> dict[str, Any]:
    """The metadata of an artifact: version, commit, code, inputs, settings, libraries, machine, and ``more``."""
    return {
        "version": unlearn.__version__,
        **commit(),
        **_job,
        "settings": canonical(settings),
        "config": digest(settings),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {os.cpu_count()} cores",
        **more,
    }
