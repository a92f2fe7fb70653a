"""Every mistake in a config stops before the first job, in one line that names the key and the file."""

import json
import math
import re

import jsonschema
import pytest
import yaml
from conftest import ROOT

from unlearn.config import contracts, plugins, scope_grammar
from unlearn.config.schema import json_schema
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.run import Run

RESNET, DIGITS = "settings.archs.resnet", "settings.datasets.digits"
ABSENT = object()
REPEATED = "twice"
LISTS = ("archs", "forgets", "methods", "scopes", "attacks", "seeds", "metrics", "figures")


def set_at(config, key, value):
    """Set the dotted key, or delete it."""
    *path, last = key.split(".")
    for part in path:
        config = config[part]
    if value is ABSENT:
        del config[last]
    else:
        config[last] = value


def put(path):
    """An empty file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def changed(config, key, value):
    set_at(config, key, value)
    return config


@pytest.fixture
def error(config, tmp_path):
    """``error(key, value)``: the message about a config with that change, its file's name cut off."""

    def found(key, value):
        set_at(config, key, value)
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        with pytest.raises(ConfigError) as caught:
            Study(yaml.safe_load(file.read_text()), [file])
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{file}: "), "the file is not named"
        return message.removeprefix(f"{file}: ")

    return found


def test_default_config_is_a_study(config):
    Study(config)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        # names
        ("archs", ["resnet", "vgg"], "'vgg' has no entry in settings.archs (resnet, vit)"),
        ("forgets", ["half"], "'half' has no entry in settings.forgets (random10, class3)"),
        ("dataset", "mnist", "'mnist' has no entry in settings.datasets (digits)"),
        ("methods", ["cf", "sacrub"], f"no method named 'sacrub'; known are {', '.join(plugins.names('methods'))}"),
        ("attacks", ["pgdd"], "no attack named 'pgdd'; known are autoattack, cascade, fgsm"),
        ("metrics", ["acuracy"], "no metric named 'acuracy'; known are accuracy, "),
        ("figures", ["costs"], "no figure named 'costs'; known are cost, "),
        ("settings.methods", {"sacrub": {}}, "no method named 'sacrub'"),
        ("settings.attacks", {"pgdd": {}}, "no attack named 'pgdd'"),
        (f"{RESNET}.methods", {"sacrub": {}}, "no method named 'sacrub'"),
        (f"{DIGITS}.source.name", "mnist", "no data named 'mnist'; known are digits, "),
        # names that would be paths
        ("study", "../elsewhere", "does not match"),
        ("archs", ["a/b"], "'a/b' does not match"),
        # repeats
        ("archs", ["resnet", "resnet"], REPEATED),
        ("forgets", ["random10", "random10"], REPEATED),
        ("methods", ["cf", "cf"], REPEATED),
        ("scopes", ["all", "all"], REPEATED),
        ("attacks", ["pgd", "pgd"], REPEATED),
        ("seeds", [0, 0], REPEATED),
        # nothing
        *((key, [], "[] is empty") for key in LISTS),
        # choices
        ("device", "gpu", "'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        ("precision", "float16", "'float16' is not one of"),
        (f"{RESNET}.stem", "imagenet", "is not one of 'native', 'cifar'"),
        ("settings.probe.at", "middle", "is not one of"),
        ("settings.probe.sigma", "variance", "is not one of"),
        # types
        ("archs", "resnet", "is not a list"),
        (f"{RESNET}.args", [1], "is not a mapping"),
        (f"{DIGITS}.augment.flip", "no", "is not true or false"),
        (f"{DIGITS}.eps.linf.headline", "1e-1", "write 0.1"),
        ("settings.analysis.confidence", "95%", "is not a number"),
        ("settings.samples.test", "all", "is not an integer"),
        # ranges
        (f"{DIGITS}.augment.crop", -1, "-1 must be 0 or greater"),
        ("settings.samples.test", 0, "0 must be 1 or greater"),
        ("settings.analysis.confidence", 1, "1 must be less than 1"),
        ("settings.analysis.resamples", 10, "10 must be 100 or greater"),
        ("settings.relearn.steps", 1, "1 must be 2 or greater"),
        ("settings.relearn.relative_lr", 0, "0 must be greater than 0"),
        # the grid of radii
        (f"{DIGITS}.eps.linf.eps", [0.1, 0.05], "must be in ascending order without repeats"),
        (f"{DIGITS}.eps.linf.eps", [0.1, 0.1], "must be in ascending order without repeats"),
        (f"{DIGITS}.eps.linf.headline", 0.12, f"0.12 is not in {DIGITS}.eps.linf.eps"),
        (f"{DIGITS}.eps.linf", "calibrated", "'calibrated' is not one of 'calibrate'"),
        (f"{DIGITS}.eps.linf.eps", [0.1, 1.5], "1.5 must be 1 or less"),
        (f"{DIGITS}.eps.l2.eps", [0.5, 1e30], "1e+30 must be 1000 or less"),
        (f"{DIGITS}.eps.l1", "calibrate", "'l1' is not one of 'linf', 'l2'"),
        (f"{DIGITS}.normalize.std", [1e-38], "1e-38 must be 0.001 or greater"),
        (f"{DIGITS}.normalize.mean", [1e30], "1e+30 must be 1 or less"),
        ("settings.archs.vit.label", "ResNet-10", "'ResNet-10' is the label of resnet too"),
        (f"{DIGITS}.eps.linf.eps", [1e-5, 0.1], "1e-05 must be 0.0001 or greater"),
        ("metrics", ["accuracy", "tow"], "metrics: 'tow' needs mia_efficacy in metrics"),
        ("metrics", ["accuracy", "residual"], "metrics: 'residual' needs recover in attacks"),
        ("settings.probe.roles", ["retain"], "lacks test"),
        ("settings.attacks.square", {"querys": 3}, "unknown key; known are queries"),
        ("settings.methods.unsir", {"epoch": 3}, "unknown key"),
        ("attacks", ["recover"], "none of recover aims to fool the model"),
        # settings of plug-ins
        (f"{RESNET}.train.lr", "1e-3", "(YAML reads 1e-3 as a text; write 0.001)"),
        (f"{RESNET}.train.lr", math.nan, "is not a finite number"),
        (f"{RESNET}.train.lr", -0.1, "must be 0 or greater"),
        (f"{RESNET}.train.epochs", 2.5, "2.5 is not an integer"),
        (f"{RESNET}.train.optimizer", "lamb", "is not one of 'sgd', 'adam', 'adamw'"),
        (f"{RESNET}.train.momentun", 0.9, "unknown key; known are epochs, lr, "),
        (f"{RESNET}.methods.cf.epochs", -1, "must be 0 or greater"),
        (f"{RESNET}.methods.salun.density", 1.5, "must be 1 or less"),
        (f"{RESNET}.methods.bs.strict", "yes", "is not true or false"),
        (f"{RESNET}.methods.scrub.msteps", 2.0, "is not an integer"),
        (f"{RESNET}.methods.scrub.msteps", math.nan, "is not a finite number"),
        (f"{RESNET}.methods.retrain", {"epochs": 3}, "exact retraining repeats"),
        ("settings.methods.retrain", {"epochs": 3}, "exact retraining repeats"),
        ("settings.attacks.pgd.steps", 0, "must be 1 or greater"),
        ("settings.attacks.pgd.alpha", 0.1, "unknown key; known are steps, relative_step"),
        (f"{DIGITS}.source.test_fraction", 1.0, "must be less than 1"),
        (f"{DIGITS}.source.fraction", 0.5, "unknown key; known are test_fraction, seed"),
    ],
)
def test_refuses(error, key, value, reason):
    message = error(key, value)
    assert message.startswith(key)
    assert reason in message


@pytest.mark.parametrize(
    ("key", "value", "item"),
    [
        ("scopes", ["all", "middle"], 1),
        ("scopes", ["all", "groups3"], 1),
        ("scopes", ["all", "last+intermediate"], 1),
        ("scopes", ["groups: ٣"], 0),
        ("seeds", [0, -1], 1),
        ("seeds", ["0"], 0),
        ("seeds", [True], 0),
        (f"{DIGITS}.eps.linf.eps", [0.05, "1e-1"], 1),
        (f"{DIGITS}.eps.linf.eps", [0.0, 0.1], 0),
        (f"{DIGITS}.eps.linf.eps", [0.1, -1.5], 1),
        (f"{DIGITS}.normalize.mean", ["0.3"], 0),
        ("settings.probe.roles", ["test", "train"], 1),
    ],
)
def test_refuses_an_item_and_says_which(error, key, value, item):
    assert error(key, value).startswith(f"{key}.{item}: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (f"{DIGITS}.eps.linf.eps", [0.1, math.nan]),
        (f"{DIGITS}.normalize.mean", [math.nan]),
        (f"{DIGITS}.normalize.std", [math.inf]),
        ("settings.forgets.random10.fraction", math.nan),
        ("settings.analysis.confidence", math.nan),
    ],
)
def test_refuses_numbers_that_are_none_everywhere(error, key, value):
    assert error(key, value).startswith(key)


@pytest.mark.parametrize(
    ("scope", "reason"),
    [
        ("groups: 3-3", "must be written groups: 3"),
        ("groups: 5-3", "must name the lower group first"),
        ("groups: 03", "is not one of first, intermediate, last, intermediate+last, all, groups: A-B"),
        ("groups:3", "is not one of first, "),
    ],
)
def test_each_range_of_groups_has_one_spelling(error, scope, reason):
    """Two would be two runs of one thing."""
    assert error("scopes", ["all", scope]).startswith(f"scopes.1: {scope!r} {reason}")


def test_refuses_a_deviation_of_zero(error):
    """Every pixel would be divided by it."""
    assert error(f"{DIGITS}.normalize.std", [0]).startswith(f"{DIGITS}.normalize.std")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seeds", [0.0]),
        (f"{DIGITS}.augment.crop", 1.0),
        ("settings.samples.retain", 150.0),
        ("settings.analysis.resamples", 2000.0),
    ],
)
def test_refuses_a_whole_number_with_a_point(error, key, value):
    """It would become a path (seed0.0)."""
    assert error(key, value).startswith(key)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("settings.forgets.random10.fraction", 1.0, "1.0"),
        ("settings.forgets.random10.fraction", "1e-1", "write 0.1"),
        ("settings.forgets.random10.share", 0.1, "unknown key; known are kind, fraction, seed"),
        ("settings.forgets.random10.kind", "some", "'some' is not one of 'random', 'class', 'where', 'files', 'ids'"),
        ("settings.forgets.class3.classes", [], "[] is empty"),
        ("settings.forgets.class3.classes", ["3", "3"], "'3' twice"),
    ],
)
def test_refuses_a_forget_set_and_says_why(error, key, value, reason):
    """Not merely that none of the three kinds fits."""
    message = error(key, value)
    assert message.startswith(f"{key}: ")
    assert reason in message


@pytest.mark.parametrize(
    "key", ["study", "seeds", "settings", "settings.forgets.random10.seed", f"{DIGITS}.eps.linf.eps", f"{RESNET}.train"]
)
def test_a_missing_key_is_named(config, key):
    set_at(config, key, ABSENT)
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)}: missing$"):
        Study(config)


def test_an_unknown_key_is_named(config):
    with pytest.raises(ConfigError, match=r"^settings\.probe\.when: unknown key; known are at, "):
        Study(changed(config, "settings.probe.when", 1))


def test_an_unknown_key_on_top_is_named_with_its_file(error):
    assert error("seed", 1).startswith("seed: unknown key; known are study, ")


def test_settings_of_a_method_for_all_architectures_are_blamed_where_they_stand(error):
    assert error("settings.methods.salun", {"density": 2}).startswith("settings.methods.salun.density: ")


def test_the_file_named_is_the_one_that_holds_the_key(config, tmp_path):
    base, overlay = tmp_path / "config.yaml", tmp_path / "overlay.yaml"
    base.write_text(yaml.safe_dump(config))
    overlay.write_text(yaml.safe_dump({"study": "other", "seeds": [-1]}))
    with pytest.raises(ConfigError, match=rf"^{overlay}: seeds\.0: "):
        Study(changed(config, "seeds", [-1]), [base, overlay])
    config["seeds"] = [0]
    with pytest.raises(ConfigError, match=rf"^{base}: {DIGITS}\.eps\.linf\.eps: "):
        Study(changed(config, f"{DIGITS}.eps.linf.eps", [0.2, 0.1]), [base, overlay])


# --- what a study derives from its config ---------------------------------------------------------


def test_controls_run_once_on_all_layers_and_methods_on_every_scope(config):
    config.update(methods=["cf", "bs"], scopes=["last", "all"])
    assert Study(config).cells == [
        ("original", "all"),
        ("retrain", "all"),
        ("cf", "last"),
        ("cf", "all"),
        ("bs", "last"),
        ("bs", "all"),
    ]


def test_scopes_by_their_names_in_paths(config):
    study = Study({**config, "scopes": ["groups: 3-5", "groups: 0", "all"]})
    assert study.scopes == ["groups3-5", "groups0", "all"]
    assert all(re.fullmatch(scope_grammar.pattern(), scope) for scope in study.scopes)


def test_naming_a_control_adds_its_scopes_only(config):
    config.update(methods=["original", "retrain"], scopes=["last", "all"])
    assert Study(config).cells == [("original", "all"), ("retrain", "all"), ("retrain", "last")]


def test_runs_are_the_product(config):
    config.update(methods=["cf"], scopes=["last"], forgets=["random10", "class3"], seeds=[0, 7])
    runs = Study(config).runs
    assert len(runs) == len(set(runs)) == 2 * 2 * 3 * 2
    assert Run("vit", "class3", "cf", "last", 7) in runs


def test_the_settings_of_an_architecture_win_over_those_for_all(config):
    config["settings"]["methods"] = {"cf": {"epochs": 3, "momentum": 0.5}}
    config["settings"]["archs"]["resnet"]["methods"]["cf"] = {"epochs": 4}
    values = Study(config).method_settings("resnet", "cf")["method"]
    assert (values["epochs"], values["momentum"]) == (4, 0.5)
    assert values["lr"] == contracts.declaration("methods", "cf").settings().lr


def test_retraining_repeats_the_recipe_of_pretraining(config):
    study = Study(config)
    assert study.method_settings("vit", "retrain") == study.training_settings("vit")


def test_stages_see_only_what_they_depend_on(config):
    """A change of the attacks or of the report must not run a training again."""

    def of_models(study):
        split = study.split_settings("random10")
        return split, study.training_settings("resnet"), study.method_settings("resnet", "cf")

    before = of_models(Study(config))
    config["settings"]["datasets"]["digits"].update(eps={"linf": {"eps": [0.2], "headline": 0.2}})
    config["settings"]["samples"]["test"] = 7
    config["settings"]["analysis"]["seed"] = 1
    config["settings"]["archs"]["resnet"]["label"] = "R"
    after = Study(config)
    assert of_models(after) == before
    assert after.radii_settings() == {"linf": {"eps": [0.2], "headline": 0.2}}
    assert after.report_settings()["labels"]["resnet"] == "R"


def test_an_attack_by_another_norm_leaves_the_radii_that_are_given(config):
    """Otherwise it would remake the grid, and with it every attack."""
    before = Study(config).radii_settings()
    assert set(before) == {"linf", "l2"}
    config["attacks"].append("pgd_l2")
    assert Study(config).radii_settings() == before
    config["settings"]["datasets"]["digits"]["eps"]["l2"] = "calibrate"
    assert Study(config).radii_settings() == {**before, "l2": None}
    config["attacks"].remove("pgd_l2")
    study = Study(config)
    assert study.radii_settings() == {"linf": before["linf"]}
    assert study.calibration == []


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ({"name": "digits"}, []),
        ({"name": "torchvision", "dataset": "svhn", "root": "x"}, ["x/train_32x32.mat", "x/test_32x32.mat"]),
        ({"name": "torchvision", "dataset": "cifar10"}, ["data/cifar-10-batches-py"]),
        ({"name": "imagefolder", "root": "images"}, ["images"]),
        ({"name": "parquet", "train": "a.parquet", "test": "b.parquet"}, ["a.parquet", "b.parquet"]),
    ],
)
def test_what_a_data_set_is_read_from(config, source, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    set_at(config, f"{DIGITS}.source", source)
    for path in paths:
        (tmp_path / path).mkdir(parents=True) if source["name"] == "imagefolder" else put(tmp_path / path)
    assert Study(config).dataset_sources() == paths


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ({"name": "parquet", "train": "here", "test": "absent.parquet"}, "test: absent.parquet: no such file"),
        ({"name": "parquet", "train": "no-*.parquet", "test": "here"}, "train: no-*.parquet: no such file"),
        ({"name": "table", "file": ".", "root": "."}, "file: .: no such file"),
        ({"name": "imagefolder", "root": "here"}, "root: here: no such folder"),
        ({"name": "imagefolder", "root": ""}, "root: '' is empty"),
    ],
)
def test_what_a_data_set_is_read_from_has_to_be_there(error, source, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").touch()
    assert error(f"{DIGITS}.source", source) == f"{DIGITS}.source.{line}"


@pytest.mark.parametrize("train", [".", "train-*.parquet", "**/train-0.parquet", "train-0.parquet"])
def test_files_are_a_file_a_folder_or_a_pattern(config, train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train-0.parquet").touch()
    set_at(config, f"{DIGITS}.source", {"name": "parquet", "train": train, "test_fraction": 0.5})
    assert Study(config).dataset_sources() == [train]


@pytest.mark.parametrize("kept", [[], ["site", "age"]])
@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "where", "column": "person", "values": [17]},
        {"kind": "random", "fraction": 0.5, "seed": 0, "within": {"column": "person", "values": [17]}},
    ],
)
def test_a_column_is_one_that_the_source_keeps(config, tmp_path, monkeypatch, spec, kept):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all.parquet").touch()
    source = {"name": "parquet", "train": "all.parquet", "test_fraction": 0.5, "attributes": kept}
    set_at(config, f"{DIGITS}.source", source)
    set_at(config, "settings.forgets.mine", spec)
    config["forgets"] = ["mine"]
    with pytest.raises(ConfigError, match=rf"mine: no attribute 'person'; .* names {', '.join(kept) or 'none'}"):
        Study(config)
    source["attributes"] = [*kept, "person"]
    Study(config)


@pytest.mark.parametrize(
    "spec", [{"kind": "where", "column": "x", "values": [1]}, {"kind": "files", "file": "pyproject.toml"}]
)
def test_unsir_forgets_whole_classes_alone(config, spec):
    """By the kind of the forget set: what a list of files holds is known too late."""
    config.update(forgets=["mine"], methods=["unsir"])
    config["settings"]["forgets"]["mine"] = spec
    with pytest.raises(ConfigError, match=f"mine: method 'unsir' is not defined for kind '{spec['kind']}'"):
        Study(config)


def test_what_is_made_needs_its_source_no_more(config, tmp_path, monkeypatch):
    """Nor does what the study does not use."""
    monkeypatch.chdir(tmp_path)
    absent = {"kind": "ids", "file": "absent.txt"}
    set_at(config, "settings.forgets.listed", absent)
    Study(config)
    with pytest.raises(ConfigError, match=r"^settings\.forgets\.listed\.file: absent\.txt: no such file$"):
        Study({**config, "forgets": ["listed"]})
    put(tmp_path / "results/digits/splits/listed.parquet")
    assert Study({**config, "forgets": ["listed"]}, results="results").split_settings("listed") == absent
    set_at(config, f"{DIGITS}.source", {"name": "imagefolder", "root": "absent"})
    with pytest.raises(ConfigError, match=r"source\.root: absent: no such folder$"):
        Study(config, results="results")
    put(tmp_path / "results/digits/dataset.parquet")
    Study(config, results="results")


def test_what_a_forget_set_is_read_from(config, tmp_path):
    (tmp_path / "ids.txt").write_text("1\n")
    config["settings"]["forgets"]["listed"] = {"kind": "ids", "file": str(tmp_path / "ids.txt")}
    study = Study(config)
    assert study.split_sources("listed") == [str(tmp_path / "ids.txt")]
    assert study.split_sources("random10") == study.split_sources("class3") == []


def test_settings_do_not_depend_on_the_order_of_keys(config):
    def reversed_keys(value):
        return {k: reversed_keys(value[k]) for k in reversed(value)} if isinstance(value, dict) else value

    one, other = Study(config), Study(reversed_keys(config))
    for settings in ("dataset", "probe", "features", "analysis", "report"):
        assert repr(getattr(one, f"{settings}_settings")()) == repr(getattr(other, f"{settings}_settings")())
    assert repr(one.training_settings("vit")) == repr(other.training_settings("vit"))
    assert repr(one.method_settings("vit", "bs")) == repr(other.method_settings("vit", "bs"))
    assert repr(one.attack_settings("pgd")) == repr(other.attack_settings("pgd"))


def test_a_method_may_restrict_the_kinds_of_forget_set(config, monkeypatch):
    original = contracts.declaration("methods", "bs")
    restricted = contracts.Declaration(original.settings, {"FORGET_KINDS": ("class",)}, "")
    real = contracts.declaration
    monkeypatch.setattr(contracts, "declaration", lambda kind, name: restricted if name == "bs" else real(kind, name))
    with pytest.raises(ConfigError, match=r"settings\.forgets\.random10: method 'bs' is not defined for kind 'random'"):
        Study(config)
    Study({**config, "forgets": ["class3"]})


@pytest.mark.parametrize("figure", plugins.names("figures"))
def test_a_figure_of_what_is_not_measured_is_refused(config, figure):
    measured = contracts.declaration("figures", figure).constants["MEASURED"]
    config["metrics"] = list(dict.fromkeys([*config["metrics"], *measured]))
    for metric in measured:
        builds_on = {
            name: contracts.declaration("metrics", name).constants.get("REQUIRES", ()) for name in config["metrics"]
        }
        kept = [name for name in config["metrics"] if name != metric and metric not in builds_on[name]]
        with pytest.raises(ConfigError, match=f"^figures: '{figure}' plots {metric}, which is not in metrics"):
            Study({**config, "figures": [figure], "metrics": kept})


@pytest.mark.parametrize(("table", "switch"), [("tuning", "tune"), ("ulira", "ulira")])
def test_a_figure_of_a_table_that_is_not_made_is_refused(config, monkeypatch, table, switch):
    needy = contracts.Declaration(None, {"NEEDS": (table,), "MEASURED": ()}, "")
    real = contracts.declaration
    monkeypatch.setattr(contracts, "declaration", lambda kind, name: needy if name == "cost" else real(kind, name))
    with pytest.raises(ConfigError, match=f"^figures: 'cost' needs the table {table}, which this study does not make"):
        Study(config)
    assert table in Study({**config, switch: True}).tables


# --- the schema -----------------------------------------------------------------------------------


def properties(node, path=""):
    """Every (dotted key, schema of the key) of a schema, unnamed levels as <name>."""
    if isinstance(node, dict):
        node = {**json_schema()["$defs"].get(node.get("$ref", "").rpartition("/")[2], {}), **node}
        for key, value in node.get("properties", {}).items():
            yield f"{path}{key}", value
            yield from properties(value, f"{path}{key}.")
        yield from properties(node.get("additionalProperties"), f"{path}<name>.")
        for option in node.get("oneOf", []):
            yield from properties(option, path)


@pytest.mark.slow
def test_every_key_of_the_config_is_described():
    schema = json_schema()

    def described(value):
        return "description" in value or "description" in schema["$defs"][value["$ref"].rpartition("/")[2]]

    keys = dict(properties(schema))
    assert {"study", "settings.archs.<name>.train.lr", "settings.forgets.<name>.classes"} <= set(keys)
    assert [key for key, value in keys.items() if not described(value)] == []


@pytest.mark.parametrize(
    "path", ["config.yaml", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("studies/*.yaml"))]
)
def test_editors_check_every_config_by_the_schema(path):
    """The first line of each file names it."""
    first = (ROOT / path).read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    schema = json.loads((ROOT / path).parent.joinpath(first).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    study = yaml.safe_load((ROOT / path).read_text())
    validator.validate(study)
    for key, value in (("study", "a/b"), ("colour", 1), ("scopes", ["groups: 03"]), ("seeds", [0, 0])):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({**study, key: value})
