"""Plug-ins from folders outside the project: found, checked, imported, fingerprinted; and `unlearn test-plugin`."""

import re
import shutil
import sys

import pytest
from conftest import ROOT
from tiny import TINY, Copy

from unlearn.api.metrics import MetricError
from unlearn.cli import main
from unlearn.config import contracts, plugins
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.fingerprint import Sources, StaleCode
from unlearn.stages.measure import _check_names

TEMPLATE = (ROOT / "docs/template/method.py").read_text()
METRIC = '''"""Half of everything."""

from unlearn.api.metrics import Metric, Row

METRICS = {"half": Metric("half", "info")}


def compute(run):
    yield Row("half", 0.5, 1)
'''


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Each test in a folder of its own; afterwards nothing from outside is in use."""
    monkeypatch.chdir(tmp_path)
    before = {*sys.modules}
    contracts.declaration.cache_clear()
    yield
    plugins.use([])
    contracts.declaration.cache_clear()
    for name in {*sys.modules} - before:
        if name.startswith("unlearn.") and str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def put(path, text=TEMPLATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def importing(module, name):
    """The template, importing a name from a module beside it."""
    return TEMPLATE.replace("\n# The images", f"\nfrom unlearn.methods.{module} import {name}\n\n# The images")


# --- found and imported ---------------------------------------------------------------------------


def test_they_are_there_beside_the_projects_own(tmp_path):
    put(tmp_path / "one/methods/ascent.py")
    put(tmp_path / "two/metrics/half.py", METRIC)
    own = plugins.names("methods")
    plugins.use(["one", "two"])
    assert plugins.names("methods") == sorted([*own, "ascent"])
    assert "half" in plugins.names("metrics")
    assert plugins.load("methods", "ascent").__name__ == "unlearn.methods.ascent"
    assert plugins.load("methods", "ascent").__file__ == str(tmp_path / "one/methods/ascent.py")
    assert contracts.declaration("methods", "ascent").constants["DATA_ROLES"] == ("retain", "forget")
    plugins.use([])
    assert plugins.names("methods") == own


def test_a_plug_in_may_build_on_its_neighbour(tmp_path):
    put(tmp_path / "one/methods/_shared.py", "RATE = 3\n")
    put(
        tmp_path / "one/methods/built.py",
        importing("_shared", "RATE"),
    )
    plugins.use(["one"])
    assert plugins.load("methods", "built").RATE == 3
    assert "_shared" not in plugins.names("methods")
    assert contracts.declaration("methods", "built").doc


@pytest.mark.parametrize(
    ("files", "folders", "message"),
    [
        (["one/methods/cf.py"], ["one"], "plugins.0: one/methods/cf.py: 'cf' is there already, .*/src/unlearn/methods"),
        (["one/methods/a.py", "two/methods/a.py"], ["one", "two"], "plugins.1: two/.*: 'a' is there already, .*one"),
        (["one/methods/my-own.py"], ["one"], "one/methods/my-own.py: the name of a plug-in is of letters"),
        (["one/method/ascent.py"], ["one"], "plugins.0: one: holds no plug-ins"),
        ([], ["nowhere"], "plugins.0: nowhere: no such folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(tmp_path, files, folders, message):
    for file in files:
        put(tmp_path / file)
    with pytest.raises(ConfigError, match=message):
        plugins.use(folders)


def test_a_study_names_them(config, tmp_path):
    """Relative to the current folder; a study without them does not know the method."""
    put(tmp_path / "one/methods/ascent.py")
    config.update(methods=["ascent"], plugins=["one"])
    settings = Study(config).method_settings("resnet", "ascent")
    assert settings["method"]["ascent"] == 0.1
    config["plugins"] = []
    with pytest.raises(ConfigError, match="methods: no method named 'ascent'"):
        Study(config)


def test_an_error_in_one_names_its_file(config, tmp_path):
    path = put(tmp_path / "one/methods/ascent.py", TEMPLATE.replace("DATA_ROLES = ", "ROLES = "))
    config.update(methods=["ascent"], plugins=["one"])
    with pytest.raises(ConfigError, match=f"{path}: lacks DATA_ROLES"):
        Study(config)


# --- fingerprints ---------------------------------------------------------------------------------


def test_its_fingerprint_is_that_of_its_code(tmp_path):
    """Also of a module beside it, wherever the folder is."""
    path = put(
        tmp_path / "one/methods/ascent.py",
        importing("_own", "A"),
    )
    helper = put(tmp_path / "one/methods/_own.py", "A = 1\n")
    plugins.use(["one"])
    roots = ("unlearn.stages.unlearn", "unlearn.methods.ascent")
    first = Sources().digest(*roots)
    path.write_text(f"{path.read_text()}\n# a comment\n")
    assert Sources().digest(*roots) == first
    shutil.copytree("one", "two")
    plugins.use(["two"])
    assert Sources().digest(*roots) == first
    plugins.use(["one"])
    helper.write_text("A = 2\n")
    second = Sources().digest(*roots)
    assert second != first
    path.write_text(path.read_text().replace("-settings.ascent", "settings.ascent"))
    assert Sources().digest(*roots) not in (first, second)
    with pytest.raises(StaleCode):
        Sources().verify(first)


def test_without_its_folder_there_is_no_such_code(tmp_path):
    put(tmp_path / "one/methods/ascent.py")
    with pytest.raises(KeyError, match=r"unlearn\.methods\.ascent"):
        Sources().digest("unlearn.methods.ascent")


@pytest.mark.slow
def test_in_a_study(tmp_path):
    """Jobs, in processes of their own, run the method; an edit of its file makes its runs again and no others."""
    study = "plugins: [mine]\n" + TINY.replace("methods: [cf, salun]", "methods: [cf, ascent]")
    copy = Copy(tmp_path / "project", study)
    path = put(copy.root / "mine/methods/ascent.py", TEMPLATE.replace("epochs: Count = 5", "epochs: Count = 1"))
    results = [f"results/digits/runs/net/listed/{method}-last/seed0/model.safetensors" for method in ("cf", "ascent")]
    copy.run(*results)
    assert not copy.planned(*results)
    path.write_text(path.read_text().replace("-settings.ascent", "-2 * settings.ascent"))
    assert copy.planned(*results) == {"Unlearn: ascent on last layers of net, listed, seed 0"}
    done = copy.unlearn("verify", "results/digits", "--plugins", "mine")
    assert (done.stdout.count(": stale: "), "made by code that has changed since" in done.stdout) == (1, True)


# --- the command ----------------------------------------------------------------------------------


def test_list_has_them(tmp_path, capsys):
    put(tmp_path / "one/methods/ascent.py")
    assert main(["list", "methods", "--plugins", "one"]) == 0
    assert re.search(r"^ascent +Ascent and repair", capsys.readouterr().out, re.M)


def tried(capsys, path):
    """The exit status of `unlearn test-plugin`, and what it printed."""
    status = main(["test-plugin", str(path)])
    return status, capsys.readouterr().out


def test_the_template_passes(tmp_path, capsys):
    status, printed = tried(capsys, put(tmp_path / "one/methods/ascent.py"))
    assert status == 0
    assert [line.split()[0] for line in printed.splitlines()] == ["ok"] * 7


def test_a_metric_passes(tmp_path, capsys):
    assert tried(capsys, put(tmp_path / "one/metrics/half.py", METRIC))[0] == 0


def test_a_metric_that_another_file_has_is_named(tmp_path, capsys):
    text = METRIC.replace('"half": Metric', '"ua": Metric')
    status, printed = tried(capsys, put(tmp_path / "one/metrics/half.py", text))
    assert (status, "ua is a metric of accuracy too" in printed) == (1, True)


def test_a_metric_of_two_files_is_refused_when_it_is_measured():
    """Its rows, of another role for instance, would be taken for the other file's."""
    with pytest.raises(MetricError, match="metric 'half': ua is a metric of 'accuracy' too"):
        _check_names({"accuracy": {"ua": 1, "ra": 1}, "half": {"ua": 2}})


FIT = "    fit(model, settings, context, batches, loss)"
BROKEN = {  # what is wrong with a method: (text, its replacement), and the check that sees it
    "scope": ((FIT, f"{FIT}\n    next(model.parameters()).data.add_(1)"), "it changes its .*: on intermediate layers"),
    "training mode": ((FIT, f"{FIT}\n    model.train()"), "it changes its scope and nothing else: .* training mode on"),
    "not finite": ((FIT, f"{FIT}\n    [*model.parameters()][-1].data.fill_(float('nan'))"), "it .* not finite"),
    "random": (
        (FIT, f"{FIT}\n    [*model.parameters()][-1].data.add_(__import__('random').random())"),
        "it is deterministic: the ResNet differs between two equal runs",
    ),
    "streams": ((FIT, f"{FIT}\n    __import__('torch').rand(1)"), "it is deterministic: it draws from the global"),
    "roles": (
        ('        yield from context.batches("forget", epoch, settings.batch_size)\n', ""),
        "it reads the roles that it declares: it declares the role forget in DATA_ROLES",
    ),
    "asks": (('DATA_ROLES = ("retain", "forget")', 'DATA_ROLES = ("retain",)'), "AccessError: images of role 'forget'"),
    "data": (
        (FIT, f'{FIT}\n    context.images("forget").pixels.zero_()'),
        "it leaves the images as they are: it changes the forget images",
    ),
    "one": (
        (FIT, f'{FIT}\n    assert len(context.images("forget")) > 1, "too few"'),
        "it forgets one image: AssertionError: too few",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_a_method_must_not_do_is_seen(tmp_path, capsys, what):
    (old, new), expected = BROKEN[what]
    assert old in TEMPLATE
    status, printed = tried(capsys, put(tmp_path / f"one/methods/broken_{len(what)}.py", TEMPLATE.replace(old, new)))
    assert status == 1
    assert [line for line in printed.splitlines() if re.search(f"^FAILED  .*{expected}", line)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEMPLATE.replace("(model: Classifier, context", "(net: Classifier, context"), "must be unlearn.model"),
        (TEMPLATE.partition('"""\n')[2], "has no docstring"),
        (TEMPLATE.replace("import Tensor", "import Tenzor"), "ImportError"),
    ],
)  # fmt: skip
def test_a_broken_contract_ends_the_checks(tmp_path, capsys, text, message):
    status, printed = tried(capsys, put(tmp_path / "one/methods/broken.py", text))
    assert status == 1
    assert printed.splitlines()[-1].startswith("FAILED")
    assert re.search(message, printed)


@pytest.mark.parametrize("name", ["original", "ssd"])
def test_what_untrained_networks_do_not_show_is_a_note(capsys, name):
    """Nothing of an untrained network is selected by SSD's published settings."""
    status, printed = tried(capsys, ROOT / f"src/unlearn/methods/{name}.py")
    assert (status, "\nnote    it changes its scope and nothing else: " in printed) == (0, True)


@pytest.mark.parametrize(
    ("file", "message"), [("mine.py", "must be a file NAME.py in a folder named"), ("methods/mine.py", "no such file")]
)
def test_a_file_that_is_no_plug_in_is_one_line(tmp_path, capsys, file, message):
    assert main(["test-plugin", file]) == 2
    assert message in capsys.readouterr().err
