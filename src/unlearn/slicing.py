"""A module cut into units: one for each name that it defines, and the rest, which runs whenever it is imported.

What a unit uses is found by the language's own rules of scope: names that a function binds are its own, all
others lead to the module's units. Where the rules cannot tell, the answer is "more".
"""

import ast
import builtins
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

PACKAGE = "unlearn"
REST = ""  # the name of the unit that no name of the module stands for
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # "unlearn.stages.split:split" in a script
# What can be evaluated at import without effects elsewhere: these, all of the standard library, and classes
# (names that begin with a capital). Any other decorator or call may register something: smallvit does, with timm.
STANDARD = sys.stdlib_module_names - {"atexit", "__future__"}
HARMLESS = ("numpy", "pyarrow", "torch.no_grad", *sorted(STANDARD))
HARMLESS_NAMES = frozenset(dir(builtins)) - {"__import__", "eval", "exec", "setattr", "delattr"} | {"dataclass"}
# Names by which code reads its own module, and by which it finds classes that it does not name.
REFLECTION = frozenset({"globals", "locals", "vars", "eval", "exec"})
SUBCLASSES = frozenset({"__subclasses__", "__init_subclass__"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True)
class Unit:
    """``names``: dotted names to look up in the unit's own module; ``imports``: dotted paths of what it imports
    or refers to elsewhere; ``searches``: it may find what no name leads to."""

    digest: str
    names: frozenset[str]
    imports: frozenset[str]
    searches: bool


@dataclass(frozen=True)
class Module:
    """``imported``: name → dotted path of what a top-level import binds it to; ``loads``: dotted paths of all that
    such imports run; ``bound``: names that the rest binds."""

    units: dict[str, Unit]
    imported: dict[str, str]
    loads: frozenset[str]
    bound: frozenset[str]


def cut(module: str, tree: ast.Module, package: bool) -> Module:
    """The units of ``module``'s syntax tree, which loses its docstrings; ``package``: it is an ``__init__``."""
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | Function)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    home = module if package else module.rpartition(".")[0]
    statements = list(_one_name_each(tree.body))
    bindings = [name for node in statements for name in _names_bound([node])]
    names = {name for name in bindings if bindings.count(name) == 1 and not _dunder(name)}
    imported = {name: path for node in statements for name, path in _imported(node, home) if name in names}
    definitions, rest = {}, []
    for node in statements:
        own = _defined(node)
        defines, imports = bool(own) and names.issuperset(own), isinstance(node, ast.Import | ast.ImportFrom)
        if defines:
            unit = _unit([node], home)
            definitions |= dict.fromkeys(own, _alias(unit) if imports else unit)
        if not defines or _has_effects(node, imported):
            rest.append(node)
    bound = frozenset(bindings) - definitions.keys()
    loads = frozenset(path for node in statements for path in _paths(node, home))
    return Module(definitions | {REST: _unit(rest, home)}, imported, loads, bound)


def _one_name_each(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements, an import of several names split up: a new one then leaves the others as they are."""
    for node in body:
        match node:
            case ast.Import():
                yield from (ast.Import([alias]) for alias in node.names)
            case ast.ImportFrom():
                yield from (ast.ImportFrom(node.module, [alias], node.level) for alias in node.names)
            case ast.Pass():
                pass
            case _:
                yield node


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _defined(node: ast.stmt) -> list[str]:
    """The names that a statement does nothing but define; none if it does more."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Import() | ast.ImportFrom():
            return [name for name in _names_bound([node]) if name != "*"]
        case ast.Assign():
            targets = [t for target in node.targets for t in getattr(target, "elts", [target])]
            return [t.id for t in targets] if all(isinstance(t, ast.Name) for t in targets) else []
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _imported(node: ast.AST, home: str) -> Iterator[tuple[str, str]]:
    """(name, dotted path of what it is bound to) for each name of an import; "*" for all of a module."""
    match node:
        case ast.Import():
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        case ast.ImportFrom():
            parts = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                yield (alias.asname or alias.name, source if alias.name == "*" else f"{source}.{alias.name}")


def _paths(node: ast.AST, home: str) -> Iterator[str]:
    """The dotted paths that an import runs and gives access to; none for other statements."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        yield from (path for _, path in _imported(node, home))


def _has_effects(node: ast.stmt, imported: dict[str, str]) -> bool:
    """Whether the execution of a definition may do more than bind its name."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            called = [getattr(decorator, "func", decorator) for decorator in node.decorator_list]
            evaluated = [*node.args.defaults, *filter(None, node.args.kw_defaults), *node.decorator_list]
        case ast.ClassDef():
            if node.keywords or any(_has_effects(part, imported) for part in node.body):
                return True
            called = [getattr(decorator, "func", decorator) for decorator in node.decorator_list]
            evaluated = [*node.bases, *node.decorator_list]
        case ast.Assign() | ast.AnnAssign():
            called, evaluated = [], [node]
        case ast.Import() | ast.ImportFrom():
            libraries = {path.split(".")[0] for path in _paths(node, PACKAGE)}
            return not libraries <= STANDARD | {PACKAGE}
        case ast.Pass():
            return False
        case _:
            return True
    called += [call.func for expression in evaluated for call in _calls(expression)]
    return not all(_harmless(function, imported) for function in called)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that evaluating ``node`` makes; bodies of lambdas wait until they are called."""
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)


def _harmless(function: ast.expr, imported: dict[str, str]) -> bool:
    chain = _chain(function)
    if not chain:
        return False
    path = ".".join([imported.get(chain[0], chain[0]), *chain[1:]])
    library = chain[0] in imported and any(f"{path}.".startswith(f"{name}.") for name in HARMLESS)
    return library or chain[-1].lstrip("_")[:1].isupper() or (len(chain) == 1 and chain[0] in HARMLESS_NAMES)


def _chain(node: ast.AST) -> list[str]:
    """["a", "b", "c"] for the expression ``a.b.c``; empty for anything that does not begin with a name."""
    match node:
        case ast.Name(id=name):
            return [name]
        case ast.Attribute(value=value, attr=attribute):
            before = _chain(value)
            return [*before, attribute] if before else []
    return []


def _unit(nodes: Sequence[ast.stmt], home: str) -> Unit:
    uses = _Uses(home)
    for node in nodes:
        uses.visit(node)
    text = "\n".join(map(ast.dump, nodes))
    digest = hashlib.sha256(text.encode()).hexdigest() if nodes else ""
    return Unit(digest, frozenset(uses.names), frozenset(uses.imports), uses.searches)


def _alias(unit: Unit) -> Unit:
    """The unit of an import, which leads nowhere by itself: where to depends on how its name is used."""
    return replace(unit, imports=frozenset())


def _names_bound(body: Iterable[ast.AST]) -> list[str]:
    """The names that statements bind in their own scope, in order and with repeats."""
    found, queue = [], list(body)
    while queue:
        node = queue.pop(0)
        match node:
            case ast.Name(ctx=ast.Store() | ast.Del(), id=name):
                found.append(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.append(name)
            case ast.Import() | ast.ImportFrom():
                found += [name for name, _ in _imported(node, "")]
            case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name) if name:
                found.append(name)
                queue = [*ast.iter_child_nodes(node), *queue]
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                pass
            case _:
                queue = [*ast.iter_child_nodes(node), *queue]
    return found


class _Uses(ast.NodeVisitor):
    """Collects what code refers to outside the scopes it opens itself."""

    def __init__(self, home: str):
        self.home, self.hidden = home, frozenset()
        self.names: set[str] = set()
        self.imports: set[str] = set()
        self.searches = False

    def _inside(self, bound: Iterable[str], nodes: Iterable[ast.AST]) -> None:
        outside, self.hidden = self.hidden, self.hidden | frozenset(bound)
        self._each(*nodes)
        self.hidden = outside

    def _each(self, *nodes: ast.AST) -> None:
        for node in nodes:
            self.visit(node)

    def _use(self, chain: Sequence[str]) -> None:
        self.searches |= not SUBCLASSES.isdisjoint(chain) or list(chain[:2]) == ["sys", "modules"]
        if chain[0] not in self.hidden:
            self.names.add(".".join(chain))

    def visit_Name(self, node: ast.Name) -> None:
        self._use([node.id])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if chain := _chain(node):
            self._use(chain)
        else:
            self.searches |= node.attr in SUBCLASSES
            self.visit(node.value)

    def visit_Global(self, node: ast.Global) -> None:
        self.names.update(node.names)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        paths = set(_paths(node, self.home))
        self.imports |= paths
        self.searches |= "sys.modules" in paths

    visit_ImportFrom = visit_Import

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and TARGET.fullmatch(node.value):
            self.imports.add(node.value.replace(":", "."))

    def visit_FunctionDef(self, node: Function) -> None:
        self.searches |= node.name in SUBCLASSES
        # Only decorators, such as singledispatch, look at the types of parameters.
        types = [argument.annotation for argument in _parameters(node.args)] if node.decorator_list else []
        self._each(*node.decorator_list, node.args, *(part for written in types for part in _types(written)))
        self._inside([*_names(node.args), *_names_bound(node.body)], node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self._inside(_names(node.args), [node.body])

    def visit_arg(self, _: ast.arg) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._each(node.target, *_types(node.annotation), *filter(None, [node.value]))

    def visit_Call(self, node: ast.Call) -> None:
        attributes = isinstance(node.func, ast.Name) and node.func.id == "vars" and node.args
        self._each(*([] if attributes else [node.func]), *node.args, *node.keywords)

    def _comprehension(self, node: Comprehension) -> None:
        first, *others = node.generators
        self.visit(first.iter)  # which Python evaluates outside
        bound = [name for part in node.generators for name in _names_bound([part.target])]
        values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._inside(bound, [*first.ifs, *others, *values])

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return list(filter(None, listed))


def _names(arguments: ast.arguments) -> list[str]:
    return [argument.arg for argument in _parameters(arguments)]


def _types(annotation: ast.expr | None) -> Iterator[ast.expr]:
    """An annotation, and what is written in it as text."""
    for part in ast.walk(annotation) if annotation else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            try:
                yield ast.parse(part.value, mode="eval").body
            except SyntaxError:
                continue
    yield from filter(None, [annotation])
