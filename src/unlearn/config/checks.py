"""What the types of a config cannot say: how its keys go together, with each other and with what plug-ins declare.

Everything that can fail fails while the Snakefile is parsed: an exception in one of Snakemake's input functions is
swallowed when the file already exists. Each function raises ConfigError with a line that names the key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.config import contracts, plugins
from unlearn.config.given import INIT, places
from unlearn.config.settings import ConfigError
from unlearn.config.validation import convert, outside
from unlearn.run import PRETRAINING, RETRAIN

if TYPE_CHECKING:
    from unlearn.config.study import Study

THERE = {
    "file": os.path.isfile,
    "folder": os.path.isdir,
    "files": lambda path: os.path.exists(path) or glob(path, recursive=True),
}
LARGEST = {"linf": 1.0, "l2": 1000.0}  # radii, of pixels in [0, 1]


def check(study: Study) -> None:
    """Everything but files."""
    _names(study.config)
    _radii(study)
    _settings(study)
    _labels(study)
    _models(study)
    _external(study)
    for forget in study.config["forgets"]:
        _forget(study, forget)
    _needs(study)
    _tuning(study)
    if study.config["ulira"]:
        _ulira(study)


def check_outside(study: Study, results: Path | None) -> None:
    """The files and folders that settings name are there, or in ``results`` what is made from them."""
    forgets = study.sections.settings.forgets
    used = [(f"settings.datasets.{study.config['dataset']}.source", study.source, "dataset.parquet")]
    used += [(f"settings.forgets.{n}", forgets[n], f"splits/{n}.parquet") for n in study.config["forgets"]]
    for where, settings, made in used:
        if results and (results / made).is_file():
            continue
        for key, path, kind in outside(settings):
            if not THERE[kind](path):
                raise ConfigError(f"{where}.{key}: {path}: no such {kind.removesuffix('s')}")
    for given in study.given():
        if not (results and (results / given.made).is_file()) and not Path(given.path).is_file():
            raise ConfigError(f"{given.key}: {given.path}: no such file")
    for arch in study.config["archs"]:  # whatever is made: no weights are read without the model's code
        for path in study.model_sources(arch):
            if not Path(path).is_file():
                raise ConfigError(f"settings.archs.{arch}.model: {path}: no such file")


def _names(config: dict[str, Any]) -> None:
    settings = config["settings"]
    used = {"dataset": ("dataset", "datasets", [config["dataset"]]), "archs": ("arch", "archs", config["archs"])}
    for key, (singular, section, names) in {**used, "forgets": ("forget set", "forgets", config["forgets"])}.items():
        if unknown := [name for name in names if name not in settings[section]]:
            known = ", ".join(settings[section])
            raise ConfigError(f"{key}: {singular} {unknown[0]!r} has no entry in settings.{section} ({known})")
    for kind in ("methods", "attacks", "metrics", "figures"):
        for name in config[kind]:
            plugins.check(kind, name, kind)
    for where, kind, given in _given(settings):
        plugins.check(kind, given, where)
        if given == RETRAIN:
            raise ConfigError(f"{where}.{given}: exact retraining repeats the recipe of each architecture")


def _given(settings: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(key, kind, name) of the plug-ins that a config has settings for."""
    for kind in ("methods", "attacks"):
        yield from ((f"settings.{kind}", kind, name) for name in settings[kind])
    for arch, spec in settings["archs"].items():
        yield from ((f"settings.archs.{arch}.methods", "methods", name) for name in spec["methods"])


def _radii(study: Study) -> None:
    where = f"settings.datasets.{study.config['dataset']}.eps"
    for norm, radii in study.dataset["eps"].items():
        if radii == "calibrate":
            continue
        if radii["eps"] != sorted(set(radii["eps"])):
            raise ConfigError(f"{where}.{norm}.eps: must be in ascending order without repeats")
        if radii["eps"][-1] > LARGEST[norm]:
            raise ConfigError(f"{where}.{norm}.eps: {radii['eps'][-1]:g} must be {LARGEST[norm]:g} or less")
        if radii["headline"] not in radii["eps"]:
            raise ConfigError(f"{where}.{norm}.headline: {radii['headline']} is not in {where}.{norm}.eps")
    for attack, norm in study.threat_norms.items():
        if norm not in study.dataset["eps"]:
            raise ConfigError(f"{where}: has no {norm}, the norm of attack {attack!r}")


def _settings(study: Study) -> None:
    """The settings of plug-ins, of those that the study does not use too."""
    settings = study.config["settings"]
    plugins.check("data", study.dataset["source"]["name"], f"settings.datasets.{study.config['dataset']}.source.name")
    study.dataset_settings()
    for kind in ("attacks", "methods"):
        for name, given in settings[kind].items():
            contracts.filled(kind, name, given, f"settings.{kind}.{name}")
    for arch in study.config["archs"]:
        for method in study.methods:
            study.method_settings(arch, method)
    for attack in study.config["attacks"]:
        study.attack_settings(attack)
    if not study.report_settings()["attacks"]:
        raise ConfigError(f"attacks: none of {', '.join(study.config['attacks'])} aims to fool the model")


def _labels(study: Study) -> None:
    """Figures and tables tell architectures apart by their labels."""
    owners: dict[str, str] = {}
    for arch in study.config["archs"]:
        label = study.arch(arch)["label"]
        if (other := owners.setdefault(label, arch)) != arch:
            raise ConfigError(f"settings.archs.{arch}.label: {label!r} is the label of {other} too")


def _models(study: Study) -> None:
    """Where the weights of a model come from is said by keys that the tables can repeat, and by nothing else."""
    c = study.config
    for arch in c["archs"]:
        spec, where = study.arch(arch), f"settings.archs.{arch}"
        for name in spec["args"]:
            if name in ("checkpoint_path", "weights") or name.startswith("pretrained"):
                raise ConfigError(
                    f"{where}.args.{name}: weights are named by {where}.weights (the model to unlearn) or "
                    f"{where}.{INIT} (where pretraining and exact retraining start)"
                )
            if name in ("num_classes", "in_chans"):
                raise ConfigError(f"{where}.args.{name}: follows from the images")
        if spec["retrained"] and not spec["weights"]:
            raise ConfigError(f"{where}.retrained: needs {where}.weights, the original that it belongs to")
        if spec["retrained"] and spec["retrained"] == spec["weights"]:
            raise ConfigError(f"{where}.retrained: is the file of {where}.weights, the model that forgot nothing")
        if spec["retrained"]:
            _one_each(study, f"{where}.retrained", spec["retrained"])
        if spec["weights"] and not spec["train"]["epochs"]:
            for key in ("tune", "ulira"):
                if c[key]:
                    raise ConfigError(f"{where}.train.epochs: 0, but {key} trains models by this recipe")


def _external(study: Study) -> None:
    taken = {*plugins.names("methods"), PRETRAINING}
    for name, spec in study.config["settings"]["external"].items():
        where = f"settings.external.{name}"
        if name in taken:
            raise ConfigError(f"{where}: is the name of a method")
        for arch, path in spec["weights"].items():
            if arch not in study.config["settings"]["archs"]:
                raise ConfigError(f"{where}.weights.{arch}: has no entry in settings.archs")
            _one_each(study, f"{where}.weights.{arch}", path)
        if not set(spec["weights"]) & set(study.config["archs"]):
            raise ConfigError(f"{where}.weights: has none of archs ({', '.join(study.config['archs'])})")


def _one_each(study: Study, key: str, path: str) -> None:
    """One model stands neither for several forget sets nor for several seeds, between which it would not vary."""
    for name in ("forget", "seed"):
        if len(study.config[f"{name}s"]) > 1 and name not in places(path):
            raise ConfigError(f"{key}: must hold {{{name}}}, since the study has several {name}s")


def _forget(study: Study, forget: str) -> None:
    spec, where = study.split_settings(forget), f"settings.forgets.{forget}"
    if method := _undefined(study.methods, spec["kind"]):
        raise ConfigError(f"{where}: method {method!r} is not defined for kind {spec['kind']!r}")
    column, kept = spec.get("column") or spec.get("within", {}).get("column"), getattr(study.source, "attributes", None)
    if column and kept is not None and column not in kept:
        source = f"settings.datasets.{study.config['dataset']}.source.attributes"
        raise ConfigError(f"{where}: no attribute {column!r}; {source} names {', '.join(kept) or 'none'}")
    if "forget" in study.config["settings"]["probe"]["roles"] and len(spec.get("classes", ("", ""))) == 1:
        raise ConfigError(f"settings.probe.roles: {forget} is one class, and a fairness-gap needs two")


def _undefined(methods: Sequence[str], kind: str) -> str | None:
    """The first of the methods that is not defined for a kind of forget set."""
    kinds = {name: contracts.declaration("methods", name).constants.get("FORGET_KINDS") for name in methods}
    return next((name for name, defined in kinds.items() if defined and kind not in defined), None)


def _needs(study: Study) -> None:
    """Metrics and figures have what they build on."""
    config = study.config
    for metric in config["metrics"]:
        constants = contracts.declaration("metrics", metric).constants
        for key, constant in (("metrics", "REQUIRES"), ("attacks", "ATTACKS")):
            if missing := set(constants.get(constant, ())) - set(config[key]):
                raise ConfigError(f"metrics: {metric!r} needs {', '.join(sorted(missing))} in {key}")
    if "test" not in config["settings"]["probe"]["roles"]:
        raise ConfigError("settings.probe.roles: lacks test, which figures and conjectures are about")
    for figure in config["figures"]:
        constants = contracts.declaration("figures", figure).constants
        if missing := set(constants["MEASURED"]) - set(config["metrics"]):
            raise ConfigError(f"figures: {figure!r} plots {', '.join(sorted(missing))}, which is not in metrics")
        if missing := set(constants["NEEDS"]) - set(study.tables):
            raise ConfigError(f"figures: {figure!r} needs the table {min(missing)}, which this study does not make")


def _tuning(study: Study) -> None:
    if study.config["settings"]["tuning"]["seed"] in study.config["seeds"]:
        raise ConfigError(
            "settings.tuning.seed: is one of seeds; methods must not be chosen on a seed that is reported"
        )
    for run in study.tunings:
        settings, where = study.tuning_settings(run.arch, run.method), f"methods/{run.method}.py, TUNING_GRID"
        if not settings["tuning_grid"]:
            raise ConfigError(f"tune: methods/{run.method}.py declares no TUNING_GRID")
        grid = convert(settings["tuning_grid"], dict[str, tuple[Any, ...]], where)
        for parameter, value in ((parameter, value) for parameter, values in grid.items() for value in values):
            tried = contracts.filled("methods", run.method, settings["method"] | {parameter: value}, where)
            if not isinstance(tried[parameter], float):  # the table of tries holds floats
                raise ConfigError(f"{where}.{parameter}: only settings that take any number can be tuned")


def _ulira(study: Study) -> None:
    c, settings = study.config, study.config["settings"]["ulira"]
    seeds = range(settings["seed"], settings["seed"] + settings["shadows"])
    if taken := sorted({*c["seeds"], c["settings"]["tuning"]["seed"]}.intersection(seeds)):
        raise ConfigError(
            f"settings.ulira.seed: shadows train with seeds {seeds[0]} to {seeds[-1]}, but {taken[0]} is "
            "one of seeds or the tuning seed"
        )
    forgetting = settings["shadows"] * settings["fraction"] / 2
    if forgetting < 1:
        raise ConfigError(f"settings.ulira.fraction: {forgetting:.2g} shadows would forget an image, too few")
    if method := _undefined(study.methods, "random"):
        raise ConfigError(f"ulira: shadows forget random images, method {method!r} is not defined for that")
    if c["tune"] and [study.split_settings(forget)["kind"] == "class" for forget in c["forgets"]] != [False]:
        raise ConfigError("ulira: with tune, forgets must hold one forget set, not of classes, to tune shadows on")
