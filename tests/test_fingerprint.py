"""A fingerprint covers the roots and what they import, whole, and nothing that is not code."""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from unlearn.fingerprint import Sources, StaleCode, parsed

PACKAGE = ROOT / "src/unlearn"
IMPORTERS = ("import_module", "importlib.import_module", "__import__", "exec", "eval")


@pytest.fixture
def package(tmp_path):
    """``package(**{"a.b": "text"})`` writes modules of a package, and returns its Sources."""

    def write(**modules):
        for name, text in modules.items():
            path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Sources(tmp_path)

    return write


def reached(sources, *roots):
    return {module.removeprefix("unlearn.") for module in sources.closure(*(f"unlearn.{root}" for root in roots))}


# --- what is covered ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import unlearn.a.one", {"a", "a.one"}),
        ("import unlearn.a.one as name", {"a", "a.one"}),
        ("from unlearn.a import one", {"a", "a.one"}),
        ("from unlearn.a.one import function", {"a", "a.one"}),
        ("from unlearn.a import function", {"a"}),
        ("from unlearn import a", {"a"}),
        ("from unlearn.b import two", {"b.two"}),
        ("from . import near", {"s.near"}),
        ("from .near import function", {"s.near"}),
        ("from ..a.one import function", {"a", "a.one"}),
        ("from .. import a", {"a"}),
        ("def f():\n    from unlearn.a import one", {"a", "a.one"}),
        ("if TYPE_CHECKING:\n    import unlearn.a", {"a"}),
        ("import unlearn", set()),
        ("import a, numpy, unlearned.a", set()),
        ("from unlearn.deep import middle", {"deep", "deep.middle", "a", "a.one"}),
    ],
)
def test_imports_in_any_form(package, text, expected):
    sources = package(
        **{
            "a.__init__": "",
            "a.one": "",
            "b.two": "",  # a folder without __init__.py is a package too
            "deep.__init__": "from unlearn.a.one import f",
            "deep.middle": "from unlearn.deep import middle",
            "s.__init__": "",
            "s.near": "",
            "s.root": text,
        }
    )
    assert reached(sources, "s.root") == {"s", "s.root"} | expected


def test_relative_imports_of_a_package_start_in_it(package):
    assert reached(package(**{"a.__init__": "from .one import f", "a.one": "", "one": ""}), "a") == {"a", "a.one"}


def test_a_package_comes_before_a_module_of_its_name(package):
    sources = package(**{"a": "from unlearn import b", "a.__init__": "", "b": ""})
    assert reached(sources, "a") == {"a"}


def test_roots_are_as_they_are_imported_together(package):
    modules = {"a": "import unlearn.b", "b": "", "c": ""}
    assert reached(package(**modules), "a", "c") == {"a", "b", "c"}
    before = package(**modules).digest("unlearn.a", "unlearn.c")
    assert before.split()[1:] == ["unlearn.a", "unlearn.c"]
    assert package(c="x = 1").digest("unlearn.a", "unlearn.c") != before


def test_two_modules_that_swap_their_code_are_another_fingerprint(package):
    root = {"root": "from unlearn import a, b"}
    before = package(**root, a="x = 1", b="x = 2").digest("unlearn.root")
    assert package(**root, a="x = 2", b="x = 1").digest("unlearn.root") != before


# --- what counts as an edit --------------------------------------------------------------------------

CODE = '''
"""A module."""

import os


class Thing:
    """A thing."""

    size: int = 3


def function(a, *, b=None):
    """Does."""
    if a:
        return [a, "text", {**b, "k": f"{a!r:>{b}}"}]
    return a[1:]
'''
SAME = {
    "comment": CODE.replace("    if a:", "    # A remark.\n    if a:  # another"),
    "docstring": CODE.replace("Does.", "Does something else."),
    "docstrings gone": CODE.replace('    """Does."""\n', "").replace('"""A module."""', ""),
    "docstring added": CODE.replace("size: int = 3", 'size: int = 3\n    """Its size."""'),
    "pass": CODE.replace("    return a[1:]", "    pass\n    return a[1:]"),
    "layout": CODE.replace("def function(a, *, b=None)", "def function(\n    a,\n    *,\n    b=None,\n)").replace(
        '"text"', "'text'"
    ),
    "line ends": CODE.replace("\n", "\r\n"),
    "declared encoding": CODE.replace('"""A module."""', "# -*- coding: utf-8 -*-"),
}
OTHER = {
    "statement": CODE.replace("    if a:", "    answer = 42\n    if a:"),
    "constant": CODE.replace("= 3", "= 4"),
    "type of a constant": CODE.replace("= 3", "= 3.0"),
    "text": CODE.replace('"text"', '"test"'),
    "name": CODE.replace("Thing", "Thong"),
    "annotation": CODE.replace("int", "float"),
    "default": CODE.replace("b=None", "b=0"),
    "slice": CODE.replace("a[1:]", "a[:1]"),
    "order": CODE.replace('[a, "text", ', '["text", a, '),
    "unpacking": CODE.replace("**b", '"j": b'),
    "conversion": CODE.replace("!r", "!s"),
    "keyword only": CODE.replace("*, ", ""),
    "import": CODE.replace("import os", "import os as system"),
    "decorator": CODE.replace("class Thing", "@final\nclass Thing"),
    "returns": CODE.replace("    return a[1:]", "    yield a[1:]"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_what_does_nothing_is_no_edit(text):
    assert text != CODE
    assert parsed(text.encode(), "unlearn") == parsed(CODE.encode(), "unlearn")


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_every_statement_counts(text):
    assert text != CODE
    assert parsed(text.encode(), "unlearn")[0] != parsed(CODE.encode(), "unlearn")[0]


def test_the_time_of_a_file_means_nothing(package, tmp_path):
    before = package(a=CODE).digest("unlearn.a")
    os.utime(tmp_path / "a.py", (0, 0))
    assert Sources(tmp_path).digest("unlearn.a") == before


def test_every_python_gives_the_same_digest():
    """The value as Python 3.11, 3.12 and 3.13 compute it: a newer Python makes nothing again."""
    assert parsed(CODE.encode(), "unlearn")[0][:16] == "faa6c08bc639efc1"


def test_no_locale_changes_a_digest(tmp_path):
    """Sources are UTF-8. In the C locale, UTF-8 mode off, Python would read text as ASCII."""
    (tmp_path / "a.py").write_bytes('NAME = "ε ≤ 8/255, naïve"\n'.encode())
    program = (
        "import locale, sys; from unlearn.fingerprint import Sources; "
        "print(locale.getpreferredencoding(False)); print(Sources(sys.argv[1]).digest('unlearn.a'))"
    )
    settings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
    encoding, digest = done.stdout.splitlines()
    assert encoding.lower() not in ("utf-8", "utf8")
    assert digest == Sources(tmp_path).digest("unlearn.a")
    (tmp_path / "a.py").write_bytes('# coding: latin-1\nNAME = "ε"\n'.encode())
    assert Sources(tmp_path).digest("unlearn.a") != digest, "a declared encoding is that of the text"


# --- what cannot be read -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"x = 1\ndef f(:\n", "a.py, line 2: "),
        (b"x = 1\ny = '\xff'\n", "a.py, line "),
        (b"x = 1\x00\n", "a.py"),
    ],
    ids=["syntax", "encoding", "null byte"],
)
def test_a_module_that_is_not_python_is_named(package, tmp_path, text, message):
    sources = package(**{"s.root": "import unlearn.a", "a": text})
    with pytest.raises(SyntaxError) as raised:
        sources.digest("unlearn.s.root")
    assert str(raised.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("root", ["unlearn.b", "unlearn.a.b", "unlearn", "numpy", "a"])
def test_a_missing_root_is_an_error(package, root):
    with pytest.raises(KeyError, match=root):
        package(a="").digest(root)


def test_a_job_refuses_code_that_was_edited_since(package):
    planned = package(**{"a": "import unlearn.b", "b": "x = 1"}).digest("unlearn.a")
    package(b="x = 1  # the same").verify(planned)
    with pytest.raises(StaleCode, match="edited after this run was started"):
        package(b="x = 2").verify(planned)


def test_a_fingerprint_is_of_one_moment(package):
    sources = package(a="x = 1")
    before = sources.digest("unlearn.a")
    package(a="x = 2")
    assert sources.digest("unlearn.a") == before


# --- this package ------------------------------------------------------------------------------------


def test_the_package_itself_holds_its_version_alone():
    """No fingerprint covers this file."""
    statements = ast.parse((PACKAGE / "__init__.py").read_bytes()).body
    assert [ast.unparse(node).split(" = ")[0] for node in statements] == ["__version__"]


def test_no_other_module_imports_by_name():
    """What an import by a computed name loads is in a fingerprint only if the workflow names it as a root
    (``roots`` in common.smk): plug-ins, and the declarations of collected tables. The code of a user's model is a
    source of the jobs that build it anew."""
    by_name = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in IMPORTERS:
                by_name.add(path.relative_to(PACKAGE).with_suffix("").as_posix())
    expected = {"config/contracts", "config/plugins", "io/tables", "models/classifier"}
    expected |= {"runtime/runner", "runtime/fork_server"}
    assert by_name == expected
