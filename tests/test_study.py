"""Every mistake in a config stops before the first job, in one line that names the key and the file."""

import math

import pytest
import yaml

from unlearn.config import plugins
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.run import Run

RESNET, DIGITS = "settings.archs.resnet", "settings.datasets.digits"
ABSENT = object()
REPEATED = "has non-unique elements"
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


def changed(config, key, value):
    set_at(config, key, value)
    return config


@pytest.fixture
def error(config, schema, tmp_path):
    """``error(key, value)``: the message about a config with that change, its file's name cut off."""

    def found(key, value):
        set_at(config, key, value)
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        with pytest.raises(ConfigError) as caught:
            Study(yaml.safe_load(file.read_text()), schema, [file])
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{file}: "), "the file is not named"
        return message.removeprefix(f"{file}: ")

    return found


def test_default_config_is_a_study(config, schema):
    Study(config, schema)


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
        ("archs", ["a/b"], "does not match"),
        # repeats
        ("archs", ["resnet", "resnet"], REPEATED),
        ("forgets", ["random10", "random10"], REPEATED),
        ("methods", ["cf", "cf"], REPEATED),
        ("scopes", ["all", "all"], REPEATED),
        ("attacks", ["pgd", "pgd"], REPEATED),
        ("seeds", [0, 0], REPEATED),
        # nothing
        *((key, [], "[]") for key in LISTS),
        # choices
        ("device", "gpu", "'gpu' is not one of ['auto', 'cpu', 'cuda']"),
        ("precision", "float16", "'float16' is not one of"),
        (f"{RESNET}.stem", "imagenet", "is not one of ['native', 'cifar']"),
        ("settings.probe.at", "middle", "is not one of"),
        ("settings.probe.sigma", "variance", "is not one of"),
        # types
        ("archs", "resnet", "is not of type 'array'"),
        (f"{RESNET}.args", [1], "is not of type 'object'"),
        (f"{DIGITS}.augment.flip", "no", "is not of type 'boolean'"),
        (f"{DIGITS}.eps.linf.headline", "1e-1", "write 0.1"),
        ("settings.analysis.confidence", "95%", "is not of type 'number'"),
        ("settings.samples.test", "all", "is not of type"),
        # ranges
        (f"{DIGITS}.augment.crop", -1, "-1 is less than the minimum of 0"),
        ("settings.samples.test", 0, "0 is less than the minimum of 1"),
        ("settings.analysis.confidence", 1, "1 is greater than or equal to the maximum of 1"),
        ("settings.analysis.resamples", 10, "10 is less than the minimum of 100"),
        # the grid of radii
        (f"{DIGITS}.eps.linf.eps", [0.1, 0.05], "must be in ascending order without repeats"),
        (f"{DIGITS}.eps.linf.eps", [0.1, 0.1], "must be in ascending order without repeats"),
        (f"{DIGITS}.eps.linf.headline", 0.12, f"0.12 is not in {DIGITS}.eps.linf.eps"),
        (f"{DIGITS}.eps.linf", "calibrated", "'calibrated' does not match '^calibrate$'"),
        (f"{DIGITS}.eps.linf.eps", [1e-5, 0.1], "less than the minimum"),
        ("metrics", ["accuracy", "tow"], "metrics: 'tow' needs mia_efficacy in metrics"),
        ("metrics", ["accuracy", "residual"], "metrics: 'residual' needs recover in attacks"),
        ("settings.probe.roles", ["retain"], "lacks test"),
        ("settings.attacks.square", {"querys": 3}, "unknown setting; known are queries"),
        ("settings.methods.unsir", {"epoch": 3}, "unknown setting"),
        ("attacks", ["recover"], "none of recover aims to fool the model"),
        # settings of plug-ins
        (f"{RESNET}.train.lr", "1e-3", "(YAML reads 1e-3 as a text; write 0.001)"),
        (f"{RESNET}.train.lr", math.nan, "is not a finite number"),
        (f"{RESNET}.train.lr", -0.1, "must be 0 or greater"),
        (f"{RESNET}.train.epochs", 2.5, "2.5 is not an integer"),
        (f"{RESNET}.train.optimizer", "lamb", "is not one of 'sgd', 'adam', 'adamw'"),
        (f"{RESNET}.train.momentun", 0.9, "unknown setting; known are epochs, lr, "),
        (f"{RESNET}.methods.cf.epochs", -1, "must be 0 or greater"),
        (f"{RESNET}.methods.salun.density", 1.5, "must be between 0 and 1"),
        (f"{RESNET}.methods.bs.strict", "yes", "is not true or false"),
        (f"{RESNET}.methods.scrub.msteps", 2.0, "is not an integer"),
        (f"{RESNET}.methods.scrub.msteps", math.nan, "is not a finite number"),
        (f"{RESNET}.methods.retrain", {"epochs": 3}, "exact retraining repeats"),
        ("settings.methods.retrain", {"epochs": 3}, "exact retraining repeats"),
        ("settings.attacks.pgd.steps", 0, "must be 1 or greater"),
        ("settings.attacks.pgd.alpha", 0.1, "unknown setting; known are steps, relative_step"),
        (f"{DIGITS}.source.test_fraction", 1.0, "must be strictly between 0 and 1"),
        (f"{DIGITS}.source.fraction", 0.5, "unknown setting; known are test_fraction, seed"),
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
    """JSON Schema calls 0.0 an integer; it would become a path (seed0.0), and plug-ins refuse it."""
    assert error(key, value).startswith(key)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("settings.forgets.random10.fraction", 1.0, "1.0"),
        ("settings.forgets.random10.fraction", "1e-1", "write 0.1"),
        ("settings.forgets.random10.share", 0.1, "unknown key"),
        ("settings.forgets.random10.kind", "some", "'some'"),
        ("settings.forgets.class3.classes", [], "[]"),
    ],
)
def test_refuses_a_forget_set_and_says_why(error, key, value, reason):
    """Not merely that none of the three kinds fits."""
    message = error(key, value)
    assert message.startswith(key.rpartition(".")[0])
    assert reason in message
    assert "given schemas" not in message


@pytest.mark.parametrize(
    "key", ["study", "seeds", "settings", "settings.analysis.seed", f"{DIGITS}.eps.linf.eps", f"{RESNET}.train"]
)
def test_a_missing_key_is_named(config, schema, key):
    set_at(config, key, ABSENT)
    with pytest.raises(ConfigError, match=rf"'{key.rpartition('.')[2]}' is a required property$"):
        Study(config, schema)


def test_an_unknown_key_is_named(config, schema):
    with pytest.raises(ConfigError, match=r"^settings\.probe: unknown key \('when' was unexpected\); known are at, "):
        Study(changed(config, "settings.probe.when", 1), schema)


def test_an_unknown_key_on_top_is_named_with_its_file(error):
    assert "unknown key ('seed' was unexpected); known are study, " in error("seed", 1)


def test_settings_of_a_method_for_all_architectures_are_blamed_where_they_stand(error):
    assert error("settings.methods.salun", {"density": 2}).startswith("settings.methods.salun.density: ")


def test_the_file_named_is_the_one_that_holds_the_key(config, schema, tmp_path):
    base, overlay = tmp_path / "config.yaml", tmp_path / "overlay.yaml"
    base.write_text(yaml.safe_dump(config))
    overlay.write_text(yaml.safe_dump({"study": "other", "seeds": [-1]}))
    with pytest.raises(ConfigError, match=rf"^{overlay}: seeds\.0: "):
        Study(changed(config, "seeds", [-1]), schema, [base, overlay])
    config["seeds"] = [0]
    with pytest.raises(ConfigError, match=rf"^{base}: {DIGITS}\.eps\.linf\.eps: "):
        Study(changed(config, f"{DIGITS}.eps.linf.eps", [0.2, 0.1]), schema, [base, overlay])


# --- what a study derives from its config ---------------------------------------------------------


def test_controls_run_once_on_all_layers_and_methods_on_every_scope(config, schema):
    config.update(methods=["cf", "bs"], scopes=["last", "all"])
    assert Study(config, schema).cells == [
        ("original", "all"),
        ("retrain", "all"),
        ("cf", "last"),
        ("cf", "all"),
        ("bs", "last"),
        ("bs", "all"),
    ]


def test_naming_a_control_adds_its_scopes_only(config, schema):
    config.update(methods=["original", "retrain"], scopes=["last", "all"])
    assert Study(config, schema).cells == [("original", "all"), ("retrain", "all"), ("retrain", "last")]


def test_runs_are_the_product(config, schema):
    config.update(methods=["cf"], scopes=["last"], forgets=["random10", "class3"], seeds=[0, 7])
    runs = Study(config, schema).runs
    assert len(runs) == len(set(runs)) == 2 * 2 * 3 * 2
    assert Run("vit", "class3", "cf", "last", 7) in runs


def test_the_settings_of_an_architecture_win_over_those_for_all(config, schema):
    config["settings"]["methods"] = {"cf": {"epochs": 3, "momentum": 0.5}}
    config["settings"]["archs"]["resnet"]["methods"]["cf"] = {"epochs": 4}
    values = Study(config, schema).method_settings("resnet", "cf")["method"]
    assert (values["epochs"], values["momentum"]) == (4, 0.5)
    assert values["lr"] == plugins.declaration("methods", "cf").settings().lr


def test_retraining_repeats_the_recipe_of_pretraining(config, schema):
    study = Study(config, schema)
    assert study.method_settings("vit", "retrain") == study.training_settings("vit")


def test_stages_see_only_what_they_depend_on(config, schema):
    """A change of the attacks or of the report must not run a training again."""

    def of_models(study):
        split = study.split_settings("random10")
        return split, study.training_settings("resnet"), study.method_settings("resnet", "cf")

    before = of_models(Study(config, schema))
    config["settings"]["datasets"]["digits"].update(eps={"linf": {"eps": [0.2], "headline": 0.2}})
    config["settings"]["samples"]["test"] = 7
    config["settings"]["analysis"]["seed"] = 1
    config["settings"]["archs"]["resnet"]["label"] = "R"
    after = Study(config, schema)
    assert of_models(after) == before
    assert after.radii_settings() == {"linf": {"eps": [0.2], "headline": 0.2}}
    assert after.report_settings()["labels"]["resnet"] == "R"


def test_an_attack_by_another_norm_leaves_the_radii_that_are_given(config, schema):
    """Otherwise it would remake the grid, and with it every attack."""
    before = Study(config, schema).radii_settings()
    assert set(before) == {"linf", "l2"}
    config["attacks"].append("pgd_l2")
    assert Study(config, schema).radii_settings() == before
    config["settings"]["datasets"]["digits"]["eps"]["l2"] = "calibrate"
    assert Study(config, schema).radii_settings() == {**before, "l2": None}
    config["attacks"].remove("pgd_l2")
    study = Study(config, schema)
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
def test_what_a_data_set_is_read_from(config, schema, source, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    set_at(config, f"{DIGITS}.source", source)
    assert Study(config, schema).dataset_sources() == paths


def test_what_a_forget_set_is_read_from(config, schema, tmp_path):
    (tmp_path / "ids.txt").write_text("1\n")
    config["settings"]["forgets"]["listed"] = {"kind": "ids", "file": str(tmp_path / "ids.txt")}
    study = Study(config, schema)
    assert study.split_sources("listed") == [str(tmp_path / "ids.txt")]
    assert study.split_sources("random10") == study.split_sources("class3") == []


def test_settings_do_not_depend_on_the_order_of_keys(config, schema):
    def reversed_keys(value):
        return {k: reversed_keys(value[k]) for k in reversed(value)} if isinstance(value, dict) else value

    one, other = Study(config, schema), Study(reversed_keys(config), schema)
    for settings in ("dataset", "probe", "analysis", "report"):
        assert repr(getattr(one, f"{settings}_settings")()) == repr(getattr(other, f"{settings}_settings")())
    assert repr(one.training_settings("vit")) == repr(other.training_settings("vit"))
    assert repr(one.method_settings("vit", "bs")) == repr(other.method_settings("vit", "bs"))
    assert repr(one.attack_settings("pgd")) == repr(other.attack_settings("pgd"))


def test_a_method_may_restrict_the_kinds_of_forget_set(config, schema, monkeypatch):
    original = plugins.declaration("methods", "bs")
    restricted = plugins.Declaration(original.settings, {"FORGET_KINDS": ("class",)}, "")
    real = plugins.declaration
    monkeypatch.setattr(plugins, "declaration", lambda kind, name: restricted if name == "bs" else real(kind, name))
    with pytest.raises(ConfigError, match=r"settings\.forgets\.random10: method 'bs' is not defined for kind 'random'"):
        Study(config, schema)
    Study({**config, "forgets": ["class3"]}, schema)


@pytest.mark.parametrize("figure", plugins.names("figures"))
def test_a_figure_of_what_is_not_measured_is_refused(config, schema, figure):
    for metric in plugins.declaration("figures", figure).constants["MEASURED"]:
        builds_on = {
            name: plugins.declaration("metrics", name).constants.get("REQUIRES", ()) for name in config["metrics"]
        }
        kept = [name for name in config["metrics"] if name != metric and metric not in builds_on[name]]
        with pytest.raises(ConfigError, match=f"^figures: '{figure}' plots {metric}, which is not in metrics"):
            Study({**config, "figures": [figure], "metrics": kept}, schema)


# --- the schema -----------------------------------------------------------------------------------


def properties(node, path=""):
    """Every (dotted key, schema of the key) of a schema, unnamed levels as <name>."""
    if isinstance(node, dict):
        for key, value in node.get("properties", {}).items():
            yield f"{path}{key}", value
            yield from properties(value, f"{path}{key}.")
        if isinstance(node.get("additionalProperties"), dict):
            yield from properties(node["additionalProperties"], f"{path}<name>.")
        for option in node.get("oneOf", []):
            yield from properties(option, path)


def test_every_key_of_the_config_is_described(schema):
    def described(value):
        shared = schema["$defs"].get(value.get("$ref", "").removeprefix("#/$defs/"), {})
        return "description" in value or "description" in shared

    assert [key for key, value in properties(schema) if not described(value)] == []
