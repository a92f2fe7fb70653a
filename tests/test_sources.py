"""A code fingerprint covers exactly the code that a stage reaches, and nothing but code changes it."""

import ast
import os
import shutil

import pytest
from conftest import ROOT

from unlearn.sources import Sources, StaleCode

STAGES = {
    "split": ("split.py",),
    "pretrain": ("pretrain.py",),
    "predict": ("predict.py",),
    "measure": ("measure.py", "unlearn.metrics.accuracy"),
    "unlearn/rl": ("unlearn.py", "unlearn.methods.rl"),
    "unlearn/salun": ("unlearn.py", "unlearn.methods.salun"),
    "unlearn/ssd": ("unlearn.py", "unlearn.methods.ssd"),
    "tune/rl": ("tune.py", "unlearn.methods.rl"),
    "attack/pgd": ("attack.py", "unlearn.attacks.pgd"),
    "figure/cost": ("figure.py", "unlearn.figures.cost"),
}
UNLEARN = {"unlearn/rl", "unlearn/salun", "unlearn/ssd"}
TRAIN = {"pretrain", "tune/rl", *UNLEARN}
WRITERS = set(STAGES) - {"figure/cost"}


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources to edit."""
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=without_caches)
    shutil.copytree(ROOT / "workflow/scripts", tmp_path / "scripts", ignore=without_caches)
    return tmp_path


def sources(checkout):
    return Sources(checkout / "src", checkout / "scripts")


def fingerprints(checkout):
    found = sources(checkout)
    return {stage: found.digest(*roots) for stage, roots in STAGES.items()}


@pytest.fixture(scope="module")
def before():
    found = Sources(ROOT / "src", ROOT / "workflow/scripts")
    return {stage: found.digest(*roots) for stage, roots in STAGES.items()}


@pytest.fixture
def changed(checkout, before):
    """``changed()``: the stages whose fingerprint is another than before."""
    return lambda: {stage for stage, found in fingerprints(checkout).items() if found != before[stage]}


def append(path, text):
    path.write_text(path.read_text() + text)


def edit(path, name):
    """Change what a function, method or constant of a file is; without a name, add a constant."""
    node, lines = ast.parse(path.read_text()), path.read_text().splitlines()
    for part in filter(None, name.split(".")):
        (node,) = [
            n for n in node.body if part in (getattr(n, "name", ""), *map(ast.unparse, getattr(n, "targets", ())))
        ]
    match node:
        case ast.FunctionDef():
            lines.insert(node.body[-1].lineno - 1, " " * node.body[-1].col_offset + "answer = 42")
        case ast.Assign(value=value):
            lines[value.lineno - 1] = f"{name} = (42, "
            lines[value.lineno : value.end_lineno] = [*ast.unparse(value).splitlines(), ")"]
        case ast.Module():
            lines.append("ANSWER = 42")
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("file", "name", "stages"),
    [
        ("src/unlearn/methods/rl.py", "relabelled", {"unlearn/rl", "unlearn/salun", "tune/rl"}),
        ("src/unlearn/methods/rl.py", "unlearn", {"unlearn/rl", "tune/rl"}),
        ("src/unlearn/methods/rl.py", "GRID", {"unlearn/rl", "tune/rl"}),
        ("src/unlearn/methods/rl.py", "", {"unlearn/rl", "tune/rl"}),
        ("src/unlearn/methods/salun.py", "saliency_mask", {"unlearn/salun"}),
        ("src/unlearn/methods/ssd.py", "unlearn", {"unlearn/ssd"}),
        ("src/unlearn/methods/bs.py", "unlearn", set()),
        ("src/unlearn/training.py", "cross_entropy", TRAIN - {"unlearn/ssd"}),
        ("src/unlearn/training.py", "", set()),
        ("src/unlearn/job.py", "Job.batches", TRAIN),
        ("src/unlearn/smallvit.py", "Block.forward", {*TRAIN, "predict", "attack/pgd"}),
        ("src/unlearn/stages/train.py", "pretrain", {"pretrain"}),
        ("src/unlearn/stages/train.py", "unlearn", UNLEARN),
        ("src/unlearn/stages/train.py", "unlearned", {*UNLEARN, "tune/rl"}),
        ("src/unlearn/stages/predict.py", "predict", {"predict"}),
        ("src/unlearn/stages/predict.py", "logits", {"tune/rl"}),
        ("src/unlearn/stages/report.py", "table", set()),
        ("src/unlearn/stages/report.py", "figure", {"figure/cost"}),
        ("src/unlearn/metrics/accuracy.py", "compute", {"measure"}),
        ("src/unlearn/metrics/accuracy.py", "accuracy", {"measure", "tune/rl"}),
        ("src/unlearn/metrics/__init__.py", "Evidence.value", {"measure"}),
        ("src/unlearn/robustness.py", "search", {"attack/pgd"}),
        ("src/unlearn/attacks/pgd.py", "build", {"attack/pgd"}),
        ("src/unlearn/attacks/fgsm.py", "build", set()),
        ("src/unlearn/figures/cost.py", "draw", {"figure/cost"}),
        ("src/unlearn/figures/__init__.py", "legend", {"figure/cost"}),
        ("src/unlearn/figures/__init__.py", "errors", set()),
        ("src/unlearn/study.py", "groups", set()),
        ("src/unlearn/tables.py", "write", WRITERS - {"predict"}),
        ("src/unlearn/tables.py", "Writer.write", WRITERS),
        ("src/unlearn/tables.py", "metadata", WRITERS),
        ("src/unlearn/tables.py", "rows", {"predict"}),
        ("src/unlearn/schema.py", "HISTORY", {"pretrain", *UNLEARN}),
        ("src/unlearn/schema.py", "TUNING", {"tune/rl", *UNLEARN}),
        ("src/unlearn/schema.py", "TRAJECTORY", set()),
        ("src/unlearn/schema.py", "COMPARISONS", {"figure/cost"}),
        ("src/unlearn/schema.py", "TABLES", set()),
        ("src/unlearn/provenance.py", "record", set(STAGES)),
        ("src/unlearn/launch.py", "serve", set(STAGES)),
        ("scripts/split.py", "", {"split"}),
        ("scripts/unlearn.py", "", UNLEARN),
    ],
)
@pytest.mark.slow
def test_code_changes_what_reaches_it(checkout, changed, file, name, stages):
    edit(checkout / file, name)
    assert changed() == stages


def test_prose_and_time_stamps_change_nothing(checkout, changed):
    for path in (checkout / "src/unlearn").rglob("*.py"):
        path.write_text(path.read_text().replace('"""', '"""Reworded. ', 1) + "\n\n# A remark.\n")
        os.utime(path, (0, 0))
    rl = checkout / "src/unlearn/methods/rl.py"
    rl.write_text(rl.read_text().replace('    """The batches of an epoch', '    """All batches of an epoch'))
    assert changed() == set()


def test_a_text_that_is_no_docstring_is_code(checkout, changed):
    path = checkout / "src/unlearn/methods/rl.py"
    assert '"random labels"' in path.read_text()
    path.write_text(path.read_text().replace('"random labels"', '"other labels"'))
    assert changed() == {"unlearn/rl", "unlearn/salun", "tune/rl"}


def test_closure_holds_what_a_stage_runs(checkout):
    closure = sources(checkout).closure(*STAGES["unlearn/salun"])
    assert {
        ("unlearn.py", ""),
        ("unlearn.launch", "launch"),
        ("unlearn.stages.train", "unlearn"),
        ("unlearn.methods.salun", "unlearn"),
        ("unlearn.methods.rl", "relabelled"),
        ("unlearn.smallvit", "SmallViT"),
    } <= closure
    assert not {"unlearn.methods.ssd", "unlearn.stages.attack", "unlearn.study"} & {module for module, _ in closure}


def test_verify_compares_with_the_plan(checkout, before):
    edit(checkout / "src/unlearn/methods/rl.py", "relabelled")
    sources(checkout).verify(before["unlearn/ssd"])
    with pytest.raises(StaleCode, match="start it again"):
        sources(checkout).verify(before["unlearn/salun"])


def test_a_misspelt_name_and_a_syntax_error_stop(checkout):
    with pytest.raises(KeyError, match=r"unlearn\.stages\.trian"):
        sources(checkout).digest("unlearn.stages.trian")
    append(checkout / "src/unlearn/methods/rl.py", "\ndef (:\n")
    with pytest.raises(SyntaxError, match=r"rl\.py, line \d+"):
        fingerprints(checkout)


# Small packages, whose job imports ``f`` from module ``m`` and calls it unless a case says otherwise. The edit turns
# $ from 1 into 2.
JOB = "from unlearn.m import f\nf()"
SEEN = {
    "what is called": {"m": "def f(): return $"},
    "what that calls": {"m": "def f(): return g()\ndef g(): return $"},
    "a constant": {"m": "A = $\ndef f(): return A"},
    "an annotated constant": {"m": "A: int = $\ndef f(): return A"},
    "one constant of two": {"m": "A, B = 0, $\ndef f(): return A"},
    "a default argument": {"m": "A = $\ndef f(x=A): return x"},
    "a keyword's default": {"m": "A = $\ndef f(*, x=A): return x"},
    "a decorator": {"m": "def d(g): return $\n@d\ndef f(): pass"},
    "a method": {"m": "class f:\n  def g(self): return $"},
    "a base class": {"m": "class B: x = $\nclass f(B): pass"},
    "a metaclass": {"m": "class M(type): x = $\nclass f(metaclass=M): pass"},
    "a field's type": {"m": "T = $\nclass f:\n  x: T"},
    "a type written as text": {"m": "T = $\nclass f:\n  x: 'T | None'"},
    "types that a decorator reads": {
        "m": "from functools import singledispatch\nclass T: x = $\n@singledispatch\ndef f(x: T): pass"
    },
    "a name that a class binds too": {"m": "A = $\nclass f:\n  A = 0\n  def g(self): return A"},
    "a nested function": {"m": "def g(): return $\ndef f():\n  def h(): return g()\n  return h()"},
    "a lambda": {"m": "A = $\nf = lambda x: x + A"},
    "a comprehension": {"m": "A = $\ndef f(): return [x + A for x in ()]"},
    "what a comprehension runs over": {"m": "A = $\ndef f(): return [A for A in A]"},
    "a name bound in an inner scope only": {"m": "A = $\ndef f():\n  def g(A): pass\n  return A"},
    "a global statement": {"m": "A = $\ndef f():\n  global A\n  A += 1"},
    "global state": {
        "job": "from unlearn.m import get, put\nput()\nget()",
        "m": "A = 0\ndef get(): return A\ndef put():\n  global A\n  A = $",
    },
    "through a module": {"job": "from unlearn import m\nm.f()", "m": "def f(): return $"},
    "through a module's other name": {"job": "import unlearn.m as k\nk.f()", "m": "def f(): return $"},
    "through the package": {"job": "import unlearn.m\nunlearn.m.f()", "m": "def f(): return $"},
    "through a function's other name": {"job": "from unlearn.m import f as g\ng()", "m": "def f(): return $"},
    "through a re-export": {"m": "from unlearn.k import f", "k": "def f(): return $"},
    "through a re-exported module": {
        "job": "from unlearn import m\nm.k.f()",
        "m": "from unlearn import k",
        "k": "def f(): $",
    },
    "through a package's re-export": {
        "job": "from unlearn.p import f\nf()",
        "p/__init__": "from unlearn.p.k import f",
        "p/k": "def f(): return $",
    },
    "through a relative import": {
        "job": "from unlearn.p.k import f\nf()",
        "p/__init__": "",
        "p/k": "from ..m import f",
        "m": "def f(): return $",
    },
    "through a relative module": {
        "job": "from unlearn.p import f\nf()",
        "p/__init__": "from . import k\ndef f(): return k.g()",
        "p/k": "def g(): return $",
    },
    "through a star": {"m": "from unlearn.k import *", "k": "def f(): return $"},
    "a lazy import": {"m": "def f():\n  from unlearn.k import g\n  g()", "k": "def g(): return $"},
    "a lazily imported module": {"m": "def f():\n  import unlearn.k\n  unlearn.k.g()", "k": "def g(): return $"},
    "a module passed on": {"job": "from unlearn import m\nprint(getattr(m, 'f'))", "m": "def f(): return $"},
    "a module under a local name": {"job": "from unlearn import m\nk = m\nk.f()", "m": "def f(): return $"},
    "an attribute that is not there": {"job": "from unlearn import m\nm.f", "m": "A = $"},
    "an attribute that is set": {"job": "from unlearn import m\nm.A = 0", "m": "A = $"},
    "a target in a text": {"job": "launch('unlearn.m:f')", "m": "def f(): return $"},
    "a module's __getattr__": {"job": "from unlearn import m\nm.f", "m": "def __getattr__(name): return $"},
    "a dunder name": {"m": "__all__ = ['f', $]\ndef f(): pass"},
    "an inner global statement": {"m": "A = $\ndef f():\n  A = 0\n  def g():\n    global A\n    return A\n  return g"},
    "what a target's module runs": {"job": "launch('unlearn.m:f')", "m": "print($)\ndef f(): pass"},
    "the package around a target": {"job": "launch('unlearn.p.k:f')", "p/__init__": "print($)", "p/k": "def f(): pass"},
    "what a lazy import runs": {"m": "def f():\n  from unlearn.k import g", "k": "print($)\ndef g(): pass"},
    "a call at import": {"job": "import unlearn.m", "m": "print($)"},
    "what a call at import calls": {"job": "import unlearn.m", "m": "def g(): return $\ng()"},
    "a module imported for its effects": {"m": "import unlearn.k\ndef f(): pass", "k": "print($)"},
    "a package around": {"job": "import unlearn.p.k", "p/__init__": "print($)", "p/k": ""},
    "a decorator that may register": {"job": "import unlearn.m", "m": "from timm import r\n@r\ndef f(): return $"},
    "a method's decorator": {"job": "import unlearn.m", "m": "from timm import r\nclass C:\n  @r\n  def f(): return $"},
    "an assignment that may register": {"job": "import unlearn.m", "m": "from timm import r\n_ = r($)"},
    "a default that may register": {"job": "import unlearn.m", "m": "from timm import r\ndef f(x=r()): return $"},
    "a class with an argument": {"job": "import unlearn.m", "m": "class C(list, at=$): pass"},
    "a class that runs code": {"job": "import unlearn.m", "m": "class C:\n  print($)"},
    "another library": {"job": "import unlearn.m", "m": "import timm.a$"},
    "a future": {"job": "import unlearn.m", "m": "from __future__ import a$"},
    "an item of a constant": {"m": "A = {}\nA['x'] = $\ndef f(): return A"},
    "a constant that is added to": {"m": "A = $\nA += 1\ndef f(): return A"},
    "a loop": {"m": "A = []\nfor i in range($): A.append(i)\ndef f(): return A"},
    "a conditional definition": {"m": "if 1:\n  def f(): return $\nelse:\n  def f(): pass"},
    "an import that is tried": {"m": "try: from unlearn.k import f\nexcept OSError: f = 0", "k": "def f(): return $"},
    "the first of two definitions": {"m": "def f(): return $\ndef f(): pass"},
    "the second of two definitions": {"m": "def f(): pass\ndef f(): return $"},
    "its module's globals": {"m": "def g(): return $\ndef f(): return globals()['g']()"},
    "a search among subclasses": {
        "job": "from unlearn.m import f\nimport unlearn.k\nf.__subclasses__()",
        "m": "class f: pass",
        "k": "from unlearn.m import f\nclass C(f): x = $",
    },
    "a class that keeps its subclasses": {
        "job": "from unlearn.m import f\nimport unlearn.k\nf()",
        "m": "class f:\n  def __init_subclass__(cls): pass",
        "k": "from unlearn.m import f\nclass C(f): x = $",
    },
    "what sys.modules finds": {"job": "import sys\nimport unlearn.m\nsys.modules['unlearn.m'].f()", "m": "def f(): $"},
    "where a name comes from": {"m": "from unlearn.k import a$ as f", "k": "def a1(): pass\ndef a2(): pass"},
    "two names that swap": {
        "job": "from unlearn.m import f, both\nf(), both()",
        "m": "from unlearn.k import a$ as f\nfrom unlearn.k import both",
        "k": "def a1(): pass\ndef a2(): pass\ndef both(): a1(), a2()",
    },
}
UNSEEN = {
    "another function": {"m": "def f(): pass\ndef g(): return $"},
    "another function, through the module": {"job": "from unlearn import m\nm.f()", "m": "def f(): pass\ndef g(): $"},
    "another constant": {"m": "A = $\ndef f(): pass"},
    "another class": {"m": "class C(list): x = $\ndef f(): pass"},
    "another dataclass": {"m": "from dataclasses import dataclass\n@dataclass\nclass C: x: int = $\ndef f(): pass"},
    "another cached function": {"m": "from functools import cache\n@cache\ndef g(): return $\ndef f(): pass"},
    "another object of a class": {"m": "class T: pass\nf = T()\nB = T($)"},
    "another name of an import": {
        "m": "from unlearn.k import a$, g\ndef f(): return g()",
        "k": "def g(): pass\na1 = a2 = 0",
    },
    "another module of the standard library": {"m": "from os import a$\ndef f(): pass"},
    "a module that nobody imports": {"m": "def f(): pass", "k": "print($)"},
    "a parameter of the same name": {"m": "A = $\ndef f(A): return A"},
    "a local name": {"m": "A = $\ndef f():\n  A = 0\n  return A"},
    "a loop's name": {"m": "A = $\ndef f():\n  for A in (): return A"},
    "an exception's name": {"m": "A = $\ndef f():\n  try: pass\n  except OSError as A: return A"},
    "a comprehension's name": {"m": "A = $\ndef f(): return [A for A in ()]"},
    "an enclosing function's name": {"m": "A = $\ndef f():\n  A = 0\n  def g(): return A\n  return g"},
    "a lambda's parameter": {"m": "A = $\nf = lambda A: A"},
    "an attribute of the same name": {"m": "A = $\ndef f(x): return x.A"},
    "a parameter's type": {"m": "class T: x = $\ndef f(x: T): pass"},
    "the attributes of an object": {"m": "A = $\ndef f(x): return vars(x)"},
    "a comment": {"m": "def f(): pass  # $"},
    "a docstring": {"m": "def f():\n  '''$'''\n  return 0"},
    "a class's docstring": {"m": "class f:\n  '''$'''"},
}


def fingerprint(folder, files, value):
    package = folder / "src/unlearn"
    for name, text in {"__init__": "", "job": JOB, **files}.items():
        path = folder / "job.py" if name == "job" else package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("$", value))
        ast.parse(path.read_text())
    return Sources(folder / "src", folder).digest("job.py")


@pytest.mark.parametrize("files", SEEN.values(), ids=SEEN)
def test_an_edit_is_seen(tmp_path, files):
    assert fingerprint(tmp_path, files, "1") != fingerprint(tmp_path, files, "2")


@pytest.mark.parametrize("files", UNSEEN.values(), ids=UNSEEN)
def test_an_edit_elsewhere_is_not(tmp_path, files):
    assert "$" in "".join(files.values())
    assert fingerprint(tmp_path, files, "1") == fingerprint(tmp_path, files, "2")


def test_order_of_definitions_and_imports_of_the_package_mean_nothing(tmp_path):
    one = "from unlearn.k import a, b\nimport os\ndef g(): return a, b, os\ndef f(): return g()"
    other = "import os\nfrom unlearn.k import b\nfrom unlearn.k import a\ndef f(): return g()\ndef g(): return a, b, os"
    files = {"k": "a = 1\nb = 2"}
    assert fingerprint(tmp_path, {**files, "m": one}, "") == fingerprint(tmp_path, {**files, "m": other}, "")
