"""A study: the checked config, the runs it names, and the settings each stage depends on.

Everything that can fail fails here, while the Snakefile is parsed: an exception in one of
Snakemake's input functions is swallowed when the file already exists.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from unlearn.config import plugins, strict_yaml
from unlearn.config import settings as hyper
from unlearn.config.settings import ConfigError
from unlearn.io.metadata import canonical
from unlearn.run import CONTROLS, Run


class Study:
    """The config, checked against the schema and against what the plug-ins declare.

    Raises ConfigError with one line that names the key, and the file if ``files`` are given.
    """

    def __init__(self, config: Mapping[str, Any], schema: Mapping[str, Any], files: Sequence[str | Path] = ()):
        self.config = config
        trees = {Path(file): strict_yaml.read(file) for file in files}
        try:
            strict_yaml.check(config, schema)
            self._check_names()
            self._check_settings()
        except ConfigError as error:
            raise strict_yaml.in_file(error, trees) from None

    # --- the runs ---------------------------------------------------------------------------------

    @cached_property
    def cells(self) -> list[tuple[str, str]]:
        """(method, scope): both controls on all layers, then every method on every scope."""
        product = [(m, s) for m in self.config["methods"] for s in self.scopes if m != "original"]
        return list(dict.fromkeys([(control, "all") for control in CONTROLS] + product))

    @cached_property
    def scopes(self) -> list[str]:
        """The scopes as runs are named by them: "groups: 3-5" becomes "groups3-5"."""
        return [scope.replace("groups: ", "groups") for scope in self.config["scopes"]]

    @cached_property
    def tunings(self) -> list[Run]:
        """A run of the tuning seed per method that is tuned; none unless ``tune`` is on."""
        c = self.config
        tuned = [m for m in c["methods"] if m not in CONTROLS] if c["tune"] else []
        seed = c["settings"]["tuning"]["seed"]
        return [Run(arch, forget, m, "all", seed) for arch in c["archs"] for forget in c["forgets"] for m in tuned]

    @cached_property
    def shadows(self) -> range:
        """The numbers of the shadow models; none unless ``ulira`` is on."""
        return range(self.config["settings"]["ulira"]["shadows"] if self.config["ulira"] else 0)

    @cached_property
    def runs(self) -> list[Run]:
        c = self.config
        return [
            Run(arch, forget, method, scope, seed)
            for arch in c["archs"]
            for forget in c["forgets"]
            for method, scope in self.cells
            for seed in c["seeds"]
        ]

    @cached_property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(method for method, _ in self.cells))

    # --- settings by stage (what a stage's result depends on, and nothing else) --------------------

    @property
    def dataset(self) -> dict[str, Any]:
        return self.config["settings"]["datasets"][self.config["dataset"]]

    def arch(self, arch: str) -> dict[str, Any]:
        return self.config["settings"]["archs"][arch]

    def dataset_settings(self) -> dict[str, Any]:
        return canonical(self.dataset["source"])

    def dataset_sources(self) -> list[str]:
        """The files and folders outside the project that the data set is read from; the job may make one that is not
        there (a download)."""
        options = {key: value for key, value in self.dataset["source"].items() if key != "name"}
        declared = plugins.declaration("data", self.dataset["source"]["name"]).settings
        return hyper.sources(hyper.build(declared, options, f"settings.datasets.{self.config['dataset']}.source"))

    def split_sources(self, forget: str) -> list[str]:
        """The files outside the project that a forget set is read from."""
        chosen = self.split_settings(forget)
        return [chosen["file"]] if chosen["kind"] == "ids" else []

    def split_settings(self, forget: str) -> dict[str, Any]:
        return canonical(self.config["settings"]["forgets"][forget])

    def shadow_split_settings(self) -> dict[str, Any]:
        """Not their number: more shadows leave those that are there as they are."""
        return canonical({key: self.config["settings"]["ulira"][key] for key in ("fraction", "seed")})

    def training_settings(self, arch: str) -> dict[str, Any]:
        """The recipe of pretraining, which exact retraining repeats on the retain set."""
        spec = self.arch(arch)
        return canonical(
            {
                "model": {key: spec[key] for key in ("model", "args", "stem")}
                | {"normalize": self.dataset["normalize"]},
                "method": _filled(hyper.Training, spec["train"], f"settings.archs.{arch}.train"),
                **self._execution(),
            }
        )

    def method_settings(self, arch: str, method: str) -> dict[str, Any]:
        """Defaults of the method's file < settings.methods < settings.archs.<arch>.methods."""
        if method == "retrain":
            return self.training_settings(arch)
        return canonical({"method": self._method_values(arch, method), **self._execution()})

    def tuning_settings(self, arch: str, method: str) -> dict[str, Any]:
        """A run's settings, and the grid that the method's file declares for its optimiser."""
        settings = self.method_settings(arch, method)
        grid = plugins.declaration("methods", method).constants.get("TUNING_GRID")
        if not grid:
            raise ConfigError(f"tune: methods/{method}.py declares no TUNING_GRID")
        family = "sgd" if settings["method"].get("optimizer") == "sgd" else "adaptive"
        tried, where = grid.get(family, grid), f"methods/{method}.py, TUNING_GRID"
        for parameter, values in hyper.convert(tried, dict, where).items():
            for value in hyper.convert(values, tuple[Any, ...], f"{where}, {parameter}"):
                _filled(plugins.declaration("methods", method).settings, settings["method"] | {parameter: value}, where)
        return canonical({**settings, "tuning_grid": tried})

    def attack_settings(self, attack: str) -> dict[str, Any]:
        values = _filled(
            plugins.declaration("attacks", attack).settings,
            self.config["settings"]["attacks"].get(attack, {}),
            f"settings.attacks.{attack}",
        )
        return canonical({"attack": values, "samples": self.config["settings"]["samples"]})

    def gate_settings(self) -> dict[str, Any]:
        """Attack → what the gates need to know of it."""
        constants = {a: plugins.declaration("attacks", a).constants for a in self.config["attacks"]}
        return canonical(
            {
                a: {"threat_norm": c["THREAT_NORM"], "category": c["CATEGORY"], "aim": c.get("AIM", "fool")}
                for a, c in constants.items()
            }
        )

    @cached_property
    def threat_norms(self) -> dict[str, str]:
        """Attack → its threat norm, in which perturbations are measured."""
        return {a: plugins.declaration("attacks", a).constants["THREAT_NORM"] for a in self.config["attacks"]}

    def radii_settings(self) -> dict[str, Any]:
        """Per norm its radii and headline; None where they are calibrated, which only norms in use are. Those that
        are given are there in any case: the first attack by another norm then remakes no other attack."""
        given = {norm: found for norm, found in self.dataset["eps"].items() if found != "calibrate"}
        return canonical({**dict.fromkeys(self.threat_norms.values()), **given})

    @property
    def calibration(self) -> list[tuple[str, int]]:
        """(arch, seed) of the original models that radii are calibrated on; none if all are given."""
        c = self.config
        return [(arch, c["seeds"][0]) for arch in c["archs"]] if None in self.radii_settings().values() else []

    def probe_settings(self) -> dict[str, Any]:
        return canonical(self.config["settings"]["probe"])

    def report_settings(self) -> dict[str, Any]:
        """What figures and tables need to know beyond the numbers: order, names and headline eps."""
        c = self.config
        return canonical(
            {
                "archs": c["archs"],
                "forgets": c["forgets"],
                "methods": self.methods,
                "scopes": self.scopes,
                "attacks": [a for a in c["attacks"] if self.gate_settings()[a]["aim"] == "fool"],
                "threat_norms": self.threat_norms,
                "labels": {a: self.arch(a)["label"] for a in c["archs"]},
            }
        )

    def analysis_settings(self) -> dict[str, Any]:
        """Statistics' own, and the attack whose numbers conjectures are judged by."""
        attack = self.report_settings()["attacks"][-1]
        return canonical({**self.config["settings"]["analysis"], "attack": attack, "threat_norms": self.threat_norms})

    def _execution(self) -> dict[str, Any]:
        return {"augment": self.dataset["augment"], "precision": self.config["precision"]}

    def _method_values(self, arch: str, method: str) -> dict[str, Any]:
        declared = plugins.declaration("methods", method).settings
        common = self.config["settings"]["methods"].get(method, {})
        _filled(declared, common, f"settings.methods.{method}")
        given = {**common, **self.arch(arch)["methods"].get(method, {})}
        return _filled(declared, given, f"settings.archs.{arch}.methods.{method}")

    # --- checks -----------------------------------------------------------------------------------

    def _check_names(self) -> None:
        c, known = self.config, self.config["settings"]
        for key, singular in (("archs", "arch"), ("forgets", "forget set")):
            for name in c[key]:
                if name not in known[key]:
                    raise ConfigError(
                        f"{key}: {singular} {name!r} has no entry in settings.{key} ({', '.join(known[key])})"
                    )
        if c["dataset"] not in known["datasets"]:
            raise ConfigError(
                f"dataset: {c['dataset']!r} has no entry in settings.datasets ({', '.join(known['datasets'])})"
            )
        for kind in ("methods", "attacks", "metrics", "figures"):
            for name in c[kind]:
                plugins.check(kind, name, kind)
        for kind in ("methods", "attacks"):
            for name in known[kind]:
                plugins.check(kind, name, f"settings.{kind}")
        for arch, spec in known["archs"].items():
            for name in spec["methods"]:
                plugins.check("methods", name, f"settings.archs.{arch}.methods")
                if name == "retrain":
                    raise ConfigError(f"settings.archs.{arch}.methods.retrain: exact retraining repeats {arch}.train")
        if "retrain" in known["methods"]:
            raise ConfigError("settings.methods.retrain: exact retraining repeats the recipe of each arch")

    def _check_settings(self) -> None:
        c, data = self.config, self.dataset
        where = f"settings.datasets.{c['dataset']}"
        plugins.check("data", data["source"]["name"], f"{where}.source.name")
        options = {k: v for k, v in data["source"].items() if k != "name"}
        hyper.build(plugins.declaration("data", data["source"]["name"]).settings, options, f"{where}.source")
        for norm, given in data["eps"].items():
            if given == "calibrate":
                continue
            if list(given["eps"]) != sorted(set(given["eps"])):
                raise ConfigError(f"{where}.eps.{norm}.eps: must be in ascending order without repeats")
            if given["headline"] not in given["eps"]:
                raise ConfigError(f"{where}.eps.{norm}.headline: {given['headline']} is not in {where}.eps.{norm}.eps")
        for attack, given in c["settings"]["attacks"].items():
            _filled(plugins.declaration("attacks", attack).settings, given, f"settings.attacks.{attack}")
        for method, given in c["settings"]["methods"].items():
            _filled(plugins.declaration("methods", method).settings, given, f"settings.methods.{method}")
        for arch in c["archs"]:
            self.training_settings(arch)
            for method in self.methods:
                self._method_values(arch, method) if method != "retrain" else None
        for attack in c["attacks"]:
            self.attack_settings(attack)
            if self.threat_norms[attack] not in data["eps"]:
                raise ConfigError(f"{where}.eps: has no {self.threat_norms[attack]}, the norm of attack {attack!r}")
        if not self.report_settings()["attacks"]:
            raise ConfigError(f"attacks: none of {', '.join(c['attacks'])} aims to fool the model")
        for forget in c["forgets"]:
            self._check_forget(forget)
        for i, scope in enumerate(c["scopes"]):
            first, _, last = scope.removeprefix("groups: ").partition("-")
            if last and int(first) > int(last):
                raise ConfigError(f"scopes.{i}: {scope!r} must name the lower group first")
        for metric in c["metrics"]:
            constants = plugins.declaration("metrics", metric).constants
            for key, constant in (("metrics", "REQUIRES"), ("attacks", "ATTACKS")):
                if missing := set(constants.get(constant, ())) - set(c[key]):
                    raise ConfigError(f"metrics: {metric!r} needs {', '.join(sorted(missing))} in {key}")
        if "test" not in c["settings"]["probe"]["roles"]:
            raise ConfigError("settings.probe.roles: lacks test, which figures and conjectures are about")
        for figure in c["figures"]:
            missing = set(plugins.declaration("figures", figure).constants["MEASURED"]) - set(c["metrics"])
            if missing:
                raise ConfigError(f"figures: {figure!r} plots {', '.join(sorted(missing))}, which is not in metrics")
        if c["settings"]["tuning"]["seed"] in c["seeds"]:
            raise ConfigError(
                "settings.tuning.seed: is one of seeds; methods must not be chosen on a seed that is reported"
            )
        for run in self.tunings:
            self.tuning_settings(run.arch, run.method)
        if c["ulira"]:
            self._check_ulira()

    def _check_forget(self, forget: str) -> None:
        spec, where = self.split_settings(forget), f"settings.forgets.{forget}"
        for method in self.methods:
            kinds = plugins.declaration("methods", method).constants.get("FORGET_KINDS")
            if kinds and spec["kind"] not in kinds:
                raise ConfigError(f"{where}: method {method!r} is not defined for kind {spec['kind']!r}")
        if spec["kind"] == "ids" and not Path(spec["file"]).is_file():
            raise ConfigError(f"{where}.file: {spec['file']}: no such file")
        if "forget" in self.config["settings"]["probe"]["roles"] and len(spec.get("classes", ("", ""))) == 1:
            raise ConfigError(f"settings.probe.roles: {forget} is one class, and a fairness-gap needs two")

    def _check_ulira(self) -> None:
        c, first = self.config, self.config["settings"]["ulira"]["seed"]
        seeds = {first + shadow for shadow in self.shadows}
        if taken := sorted(seeds & {*c["seeds"], c["settings"]["tuning"]["seed"]}):
            raise ConfigError(
                f"settings.ulira.seed: shadows train with seeds {first} to {max(seeds)}, but {taken[0]} is "
                "one of seeds or the tuning seed"
            )
        forgetting = len(self.shadows) * c["settings"]["ulira"]["fraction"] / 2
        if forgetting < 1:
            raise ConfigError(f"settings.ulira.fraction: {forgetting:.2g} shadows would forget an image, too few")
        for method in self.methods:
            kinds = plugins.declaration("methods", method).constants.get("FORGET_KINDS")
            if kinds and "random" not in kinds:
                raise ConfigError(f"ulira: shadows forget random images, method {method!r} is not defined for that")
        if c["tune"] and [self.split_settings(forget)["kind"] == "class" for forget in c["forgets"]] != [False]:
            raise ConfigError("ulira: with tune, forgets must hold one forget set, not of classes, to tune shadows on")


def _filled(cls: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    return asdict(hyper.build(cls, given, where))


def groups(runs: Sequence[Run]) -> Iterator[tuple[str, str, int]]:
    """The distinct (arch, forget, seed) of the runs, in order."""
    yield from dict.fromkeys((run.arch, run.forget, run.seed) for run in runs)
