"""Fingerprints over the code that a job reaches, precise to the definition.

Snakemake does not see edits in imported modules, and compares scripts by time stamp; a digest over syntax trees
without comments and docstrings is immune to ``touch``, checkouts and prose. From a script or a module the closure
follows names: ``from unlearn.m import f`` and ``m.f`` reach ``f`` and what it uses. What runs when a module is
imported counts once the module is imported, and so do the packages around it. A module that is passed on, a name
that leads nowhere and ``import *`` count as the whole module. Imports by name (the registry's) are invisible, so the
caller names those as roots.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path

from unlearn.slicing import PACKAGE, REFLECTION, REST, Module, cut

Node = tuple[str, str]  # a module (or a script's file name) and one of its units


class StaleCode(RuntimeError):
    """The sources were edited after the run that started this job was planned."""


class Sources:
    """The package below ``src`` and the ``scripts`` that start its stages."""

    def __init__(self, src: Path, scripts: Path):
        self.src, self.scripts = Path(src), Path(scripts)

    @cached_property
    def modules(self) -> dict[str, Path]:
        found = {}
        for path in sorted((self.src / PACKAGE).rglob("*.py")):
            parts = path.relative_to(self.src).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    def digest(self, *roots: str) -> str:
        """Fingerprint of a closure, followed by its roots, so that a job can compute it again.

        A root is a script's file name or a module. Raises KeyError for a module that is not there, SyntaxError
        naming the file for one that is no Python.
        """
        total = hashlib.sha256()
        for module, name in sorted(self.closure(*roots)):
            if digest := self._parsed(module).units[name].digest:
                total.update(f"{module} {name} {digest}\n".encode())
        return " ".join([total.hexdigest()[:16], *roots])

    def verify(self, digest: str) -> None:
        """Raise StaleCode unless the sources still have the fingerprint the job was planned with."""
        _, *roots = digest.split()
        if self.digest(*roots) != digest:
            raise StaleCode("the sources have changed since this run was started; start it again")

    def closure(self, *roots: str) -> set[Node]:
        """All units that the roots reach."""
        found: set[Node] = set()
        queue = [node for root in roots for node in self._whole(root)]
        while queue:
            node = queue.pop()
            if node not in found:
                found.add(node)
                queue.extend(self._successors(node))
            if not queue and any(self._parsed(module).units[name].searches for module, name in found):
                loaded = {module for module, _ in found}
                queue = list({(module, name) for module in loaded for name in self._parsed(module).units} - found)
        return found

    def imports(self, module: str) -> set[str]:
        """The modules of this package that a module imports somewhere."""
        units = self._parsed(module)
        paths = units.loads.union(*(unit.imports for unit in units.units.values()))
        return {found for path in paths for found in self._loaded(path)}

    @cache  # noqa: B019 (one instance a process)
    def _parsed(self, module: str) -> Module:
        path = self.scripts / module if module.endswith(".py") else self.modules[module]
        try:
            tree = ast.parse(path.read_text(), str(path))
        except SyntaxError as error:
            raise SyntaxError(f"{path}, line {error.lineno}: {error.msg}") from None
        return cut(module, tree, path.name == "__init__.py")

    @cache  # noqa: B019
    def _successors(self, node: Node) -> frozenset[Node]:
        module, name = node
        parsed = self._parsed(module)
        unit = parsed.units[name]
        found = {(module, REST)}
        for used in unit.names:
            chain = used.split(".")
            if chain[0] in parsed.units:
                found.update(self._follow(module, chain))
        if unit.names & REFLECTION:
            found.update(self._whole(module))
        for path in unit.imports:
            for start in self._start(path):
                found.update(self._follow(*start))
        if name == REST:
            loads = (*parsed.loads, *([] if module.endswith(".py") else [module]))
            found.update((loaded, REST) for path in loads for loaded in self._loaded(path))
        return frozenset(found)

    def _follow(self, module: str, chain: Sequence[str]) -> Iterator[Node]:
        """The units to which a chain of names leads that starts in a module."""
        queue, seen = [(module, tuple(chain))], set()
        while queue:
            module, chain = step = queue.pop()
            if step in seen:
                continue  # a package may import its own module under the module's name
            seen.add(step)
            if not chain:
                yield from self._whole(module)
                continue
            parsed, (name, *others) = self._parsed(module), chain
            below = f"{module}.{name}"
            if name in parsed.units:
                yield (module, name)
            if name in parsed.bound:
                yield (module, REST)
            if name in parsed.imported:
                queue.extend(self._start(".".join([parsed.imported[name], *others])))
            if below in self.modules:
                queue.append((below, tuple(others)))
            elif name not in parsed.units and name not in parsed.bound:
                yield from self._whole(module)

    def _start(self, path: str) -> list[tuple[str, tuple[str, ...]]]:
        """Where to begin to follow a dotted path from the top; nowhere if it leads to another library."""
        top, *chain = path.split(".")
        return [(top, tuple(chain))] if top == PACKAGE else []

    def _whole(self, module: str) -> Iterator[Node]:
        """All units of a module, and of what is below it if it is a package."""
        below = [name for name in self.modules if name.startswith(f"{module}.")]
        yield from ((part, name) for part in (module, *below) for name in self._parsed(part).units)

    def _loaded(self, path: str) -> Iterable[str]:
        """The modules that importing a dotted path runs."""
        parts = path.split(".")
        steps = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        return [module for module in steps if module in self.modules]
