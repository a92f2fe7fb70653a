"""Every plug-in file is found, says what its kind must, and declares the same in source and when run."""

import inspect
from dataclasses import fields, is_dataclass

import pytest

from unlearn.config import plugins
from unlearn.config.settings import ConfigError

PLUGINS = [(kind, name) for kind in plugins.KINDS for name in plugins.names(kind)]
WITH_SETTINGS = [(kind, name) for kind, name in PLUGINS if kind in ("methods", "attacks", "data")]
GOALS = {"max", "min", "match_retrain", "info"}


def of(kind):
    return [name for other, name in PLUGINS if other == kind]


def takes(function, *names):
    assert tuple(inspect.signature(function).parameters) == names


def test_every_file_is_registered():
    for kind in plugins.KINDS:
        files = {path.stem for path in (plugins.ROOT / kind).glob("*.py")} - {"__init__"}
        assert files == set(plugins.names(kind))
        assert files


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_says_what_it_is(kind, name):
    """The first paragraph of its docstring is one sentence on one line."""
    doc = plugins.declaration(kind, name).doc
    assert doc == inspect.getdoc(plugins.load(kind, name))
    first = doc.split("\n\n")[0]
    assert len(first.split()) > 3
    assert "\n" not in first


@pytest.mark.parametrize(("kind", "name"), WITH_SETTINGS)
def test_settings_are_a_frozen_dataclass(kind, name):
    found = plugins.load(kind, name).Settings
    assert is_dataclass(found)
    assert found.__dataclass_params__.frozen


@pytest.mark.parametrize(("kind", "name"), WITH_SETTINGS)
def test_declaration_is_what_runs(kind, name):
    """The config is checked against the syntax tree, the stage runs the module."""
    declared, run = plugins.declaration(kind, name).settings, plugins.load(kind, name).Settings

    def seen(cls):
        return [(field.name, field.type, field.default, field.default_factory) for field in fields(cls)]

    assert seen(declared) == seen(run)


@pytest.mark.parametrize("name", of("methods"))
def test_method(name):
    method = plugins.load("methods", name)
    assert set(method.DATA_ROLES) <= {"retain", "forget"}
    assert plugins.declaration("methods", name).constants["DATA_ROLES"] == method.DATA_ROLES
    takes(method.unlearn, "model", "context", "settings")


@pytest.mark.parametrize("name", of("attacks"))
def test_attack(name):
    takes(plugins.load("attacks", name).build, "model", "eps", "settings")


@pytest.mark.parametrize("name", of("data"))
def test_data(name):
    takes(plugins.load("data", name).load, "settings")


@pytest.mark.parametrize("name", of("metrics"))
def test_metric(name):
    module = plugins.load("metrics", name)
    assert module.METRICS
    for metric in module.METRICS.values():
        assert metric.goal in GOALS
        assert metric.label
        assert metric.low is None or metric.high is None or metric.low < metric.high
    assert hasattr(module, "compute") or hasattr(module, "compute_relative")
    if hasattr(module, "compute"):
        takes(module.compute, "run")
    if hasattr(module, "compute_relative"):
        takes(module.compute_relative, "run", "references")


def test_no_metric_is_declared_twice():
    declared = [metric for name in of("metrics") for metric in plugins.load("metrics", name).METRICS]
    assert len(declared) == len(set(declared))


@pytest.mark.parametrize("name", of("figures"))
def test_figure(name):
    module = plugins.load("figures", name)
    assert set(module.NEEDS) <= {"metrics", "comparisons", "correlations"}
    takes(module.data, "tables", "settings")
    takes(module.draw, "frame", "settings")


@pytest.mark.parametrize("function", [plugins.load, plugins.declaration])
def test_unknown_names_list_the_known_ones(function):
    with pytest.raises(ConfigError, match=r"no attack named 'pgdd'; known are autoattack, cascade, fgsm"):
        function("attacks", "pgdd")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """``plugin(text)``: the declaration of a method file of that text, which is never imported."""

    def declare(text):
        (tmp_path / "methods").mkdir()
        (tmp_path / "methods/mine.py").write_text(text)
        monkeypatch.setattr(plugins, "ROOT", tmp_path)
        return plugins.declaration.__wrapped__("methods", "mine")

    return declare


def test_declaration_runs_only_the_settings(plugin):
    found = plugin(
        '"""Mine."""\nraise SystemExit\nDATA_ROLES = ("forget",)\n'
        "@dataclass(frozen=True)\nclass Settings(Training):\n    depth: Natural = 3\n"
        "def unlearn(model, context, settings): pass\n"
    )
    assert found.doc == "Mine."
    assert found.constants == {"DATA_ROLES": ("forget",)}
    assert found.settings().depth == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DATA_ROLES = (", r"^methods/mine\.py, line 1: "),
        ("class Settings(Missing):\n    pass\n", r"^methods/mine\.py, Settings: .*'Missing' is not defined"),
    ],
)
def test_a_broken_plug_in_is_named(plugin, text, message):
    with pytest.raises(ConfigError, match=message):
        plugin(text)
