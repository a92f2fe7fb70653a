"""A study: the checked config, the runs it names, and the settings each stage depends on."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from unlearn.config import checks, contracts, plugins, scope_grammar, strict_yaml
from unlearn.config.given import INIT, local, places
from unlearn.config.schema import Config
from unlearn.config.settings import ConfigError, Section
from unlearn.config.validation import convert, sources
from unlearn.io.catalogue import STUDY_WIDE
from unlearn.io.metadata import canonical
from unlearn.run import ALL, CONTROLS, ORIGINAL, PRETRAINING, REFERENCE, RETRAIN, Run


class Given(NamedTuple):
    """A file of weights of the user's: the ``key`` of the config that names it, and the result that is ``made``
    from it."""

    key: str
    arch: str
    path: str
    made: str


class Study:
    """A config with all its defaults, checked against its schema and against what the plug-ins declare.

    ``files``: those that the config was read from. ``results``: the folder of all studies' results; what is made there
    needs what it was made from no more. From then on this process and those that it starts use the config's plug-ins
    from outside. Raises ConfigError with one line that names the key, and its file if ``files`` are given.
    """

    def __init__(self, config: Mapping[str, Any], files: Sequence[str | Path] = (), results: str | Path | None = None):
        trees = {Path(file): strict_yaml.read(file) for file in files}
        try:
            strict_yaml.check_plain(config)
            self.sections = convert(config, Config, "")
            self.config = self.sections.model_dump(mode="json")
            plugins.use(self.config["plugins"])
            checks.check(self)
            checks.check_outside(self, Path(results, self.config["study"]) if results else None)
        except ConfigError as error:
            raise strict_yaml.in_file(error, trees) from None

    @cached_property
    def tables(self) -> list[str]:
        """The study-wide tables that this study has."""
        absent = {"tuning": not self.tunings, "ulira": not self.shadows}
        return [name for name in STUDY_WIDE if not absent.get(name)]

    # --- the runs ---------------------------------------------------------------------------------

    @cached_property
    def cells(self) -> list[tuple[str, str]]:
        """(method, scope): both controls on all layers, then every method on every scope."""
        product = [(m, s) for m in self.config["methods"] for s in self.scopes if m != ORIGINAL]
        return list(dict.fromkeys([(control, ALL) for control in CONTROLS] + product))

    @cached_property
    def scopes(self) -> list[str]:
        """The scopes by the names that they have in paths and columns."""
        return list(map(scope_grammar.name, self.config["scopes"]))

    @cached_property
    def tunings(self) -> list[Run]:
        """A run of the tuning seed per method that is tuned; none unless ``tune`` is on."""
        c = self.config
        tuned = [m for m in c["methods"] if m not in CONTROLS] if c["tune"] else []
        seed = c["settings"]["tuning"]["seed"]
        return [Run(arch, forget, m, ALL, seed) for arch in c["archs"] for forget in c["forgets"] for m in tuned]

    @cached_property
    def shadows(self) -> range:
        """The numbers of the shadow models; none unless ``ulira`` is on."""
        return range(self.config["settings"]["ulira"]["shadows"] if self.config["ulira"] else 0)

    @cached_property
    def runs(self) -> list[Run]:
        """Those of the cells, then those of models that were unlearned elsewhere."""
        c = self.config
        return [
            Run(arch, forget, method, scope, seed)
            for arch in c["archs"]
            for forget in c["forgets"]
            for method, scope in [*self.cells, *((name, ALL) for name in self.external if self._unlearned(name, arch))]
            for seed in c["seeds"]
        ]

    @cached_property
    def methods(self) -> list[str]:
        """The methods that run, files of ``methods/``."""
        return list(dict.fromkeys(method for method, _ in self.cells))

    @cached_property
    def external(self) -> list[str]:
        """The names of models that were unlearned elsewhere; they stand in place of a method."""
        return list(self.config["settings"]["external"])

    # --- the user's own files in place of what a study makes ----------------------------------------

    def original(self, arch: str, seed: int) -> str | None:
        """The user's weights in place of pretraining; none for the seeds of tuning and of shadow models, which train
        by the recipe."""
        path = self.arch(arch)["weights"] if seed in self.config["seeds"] else None
        return path and path.format(seed=seed)

    def forgotten(self, run: Run) -> str | None:
        """The user's weights in place of a run's job."""
        path = self.arch(run.arch)["retrained"] if run.method == RETRAIN else self._unlearned(run.method, run.arch)
        return path and path.format(seed=run.seed, forget=run.forget)

    def _unlearned(self, name: str, arch: str) -> str | None:
        return self.config["settings"]["external"][name]["weights"].get(arch)

    def given(self) -> Iterator[Given]:
        """All files of weights that the study reads."""
        c = self.config
        for arch, seed in ((arch, seed) for arch in c["archs"] for seed in c["seeds"]):
            key, made = f"settings.archs.{arch}", f"pretrained/{arch}/seed{seed}/model.safetensors"
            if path := self.original(arch, seed):
                yield Given(f"{key}.weights", arch, path, made)
            if path := self.arch(arch)[INIT]:
                yield Given(f"{key}.{INIT}", arch, path, made)
        for run in self.runs:
            exact = (run.method, run.scope) == REFERENCE
            if (exact or run.method in self.external) and (path := self.forgotten(run)):
                key = f"archs.{run.arch}.retrained" if exact else f"external.{run.method}.weights.{run.arch}"
                made = f"runs/{run.arch}/{run.forget}/{run.method}-{run.scope}/seed{run.seed}/model.safetensors"
                yield Given(f"settings.{key}", run.arch, path, made)

    def model_sources(self, arch: str) -> list[str]:
        """The file with the code of an architecture that timm does not have."""
        found = local(self.arch(arch)["model"])
        return [found[0]] if found else []

    def training_sources(self, arch: str) -> list[str]:
        """The user's files that pretraining and exact retraining read."""
        return [*self.model_sources(arch), *([self.arch(arch)[INIT]] if self.arch(arch)[INIT] else [])]

    def layers_sources(self) -> list[str]:
        """All files of the user's that hold models."""
        found = [path for arch in self.config["archs"] for path in self.model_sources(arch)]
        return list(dict.fromkeys([*found, *(given.path for given in self.given())]))

    def adoption_settings(self, arch: str, method: str) -> dict[str, Any]:
        """How weights are taken in place of pretraining, or of a run of the method."""
        spec = self.config["settings"]["external"].get(method) or self.arch(arch)
        key = {PRETRAINING: f"archs.{arch}.weights", RETRAIN: f"archs.{arch}.retrained"}.get(method)
        key = f"settings.{key or f'external.{method}.weights.{arch}'}"
        seconds = spec.get("seconds")
        return canonical({"model": self.model(arch), "key": key, "trust": spec["trust"], "seconds": seconds})

    @property
    def notes(self) -> list[str]:
        """What every table says of models that the study did not make from nothing."""
        c, found = self.config, []
        for arch in c["archs"]:
            spec = self.arch(arch)
            same = len(c["seeds"]) > 1 and spec["weights"] and not places(spec["weights"])
            parts = {
                f"pretraining and exact retraining start from {spec[INIT]}": spec[INIT] and not spec["weights"],
                f"exact retraining starts from {spec[INIT]}": spec[INIT] and spec["weights"] and not spec["retrained"],
                f"the original is {spec['weights']}" + ", one model for all seeds" * bool(same): spec["weights"],
                f"exact retraining is {spec['retrained']}": spec["retrained"],
            }
            if said := [text for text, holds in parts.items() if holds]:
                found.append(f"{spec['label']}: {'; '.join(said)}.")
        for name in self.external:
            seconds = c["settings"]["external"][name]["seconds"]
            time = "its time is not known" if seconds is None else f"its time, {seconds:g} s, is as the config says"
            found.append(f"{name} was unlearned elsewhere; {time}.")
        return found

    # --- settings by stage (what a stage's result depends on, and nothing else) --------------------

    @property
    def dataset(self) -> dict[str, Any]:
        return self.config["settings"]["datasets"][self.config["dataset"]]

    def arch(self, arch: str) -> dict[str, Any]:
        return self.config["settings"]["archs"][arch]

    @cached_property
    def source(self) -> Section:
        """The settings of the data source."""
        given = {key: value for key, value in self.dataset["source"].items() if key != "name"}
        declared = contracts.declaration("data", self.dataset["source"]["name"]).settings
        return convert(given, declared, f"settings.datasets.{self.config['dataset']}.source")

    def dataset_settings(self) -> dict[str, Any]:
        return canonical({"name": self.dataset["source"]["name"], **self.source.model_dump(mode="json")})

    def dataset_sources(self) -> list[str]:
        """The files and folders outside the project that the data set is read from; the job may make one that is not
        there (a download)."""
        return sources(self.source)

    def split_settings(self, forget: str) -> dict[str, Any]:
        return canonical(self.config["settings"]["forgets"][forget])

    def split_sources(self, forget: str) -> list[str]:
        """The files outside the project that a forget set is read from."""
        return sources(self.sections.settings.forgets[forget])

    def shadow_split_settings(self) -> dict[str, Any]:
        """Not their number: more shadows leave those that are there as they are."""
        return canonical({key: self.config["settings"]["ulira"][key] for key in ("fraction", "seed")})

    def training_settings(self, arch: str) -> dict[str, Any]:
        """The recipe of pretraining, which exact retraining repeats on the retain set."""
        spec = self.arch(arch)
        init = {INIT: spec[INIT]} if spec[INIT] else {}
        return canonical({"model": self.model(arch), "method": spec["train"], **init, **self._execution()})

    def layers_settings(self) -> dict[str, Any]:
        """All architectures and scopes, as the config writes them."""
        c = self.config
        data = {"data": c["dataset"], "crop": self.dataset["augment"]["crop"]}
        given = list(dict.fromkeys((g.arch, g.key, g.path, self.arch(g.arch)["trust"]) for g in self.given()))
        models = {arch: self.model(arch) for arch in c["archs"]}
        return canonical({"archs": models, "scopes": c["scopes"], **data, **({"given": given} if given else {})})

    def model(self, arch: str) -> dict[str, Any]:
        """What a model is built from, beside the data set."""
        spec = self.arch(arch)
        keys = ("model", "args", "stem", *(["groups"] if spec["groups"] else []))
        return {**{key: spec[key] for key in keys}, "normalize": self.dataset["normalize"]}

    def method_settings(self, arch: str, method: str) -> dict[str, Any]:
        """Defaults of the method's file < settings.methods < settings.archs.<arch>.methods."""
        if method == RETRAIN:
            return self.training_settings(arch)
        common = self.config["settings"]["methods"].get(method, {})
        given = {**common, **self.arch(arch)["methods"].get(method, {})}
        values = contracts.filled("methods", method, given, f"settings.archs.{arch}.methods.{method}")
        return canonical({"method": values, **self._execution()})

    def tuning_settings(self, arch: str, method: str) -> dict[str, Any]:
        """A run's settings, and the grid that the method's file declares for its optimiser."""
        settings = self.method_settings(arch, method)
        grid = contracts.declaration("methods", method).constants.get("TUNING_GRID") or {}
        family = "sgd" if settings["method"].get("optimizer") == "sgd" else "adaptive"
        return canonical({**settings, "tuning_grid": grid.get(family, grid)})

    def attack_settings(self, attack: str) -> dict[str, Any]:
        given = self.config["settings"]["attacks"].get(attack, {})
        values = contracts.filled("attacks", attack, given, f"settings.attacks.{attack}")
        return canonical({"attack": values, "samples": self.config["settings"]["samples"]})

    def gate_settings(self) -> dict[str, Any]:
        """Attack → what the gates need to know of it."""
        constants = {a: contracts.declaration("attacks", a).constants for a in self.config["attacks"]}
        return canonical(
            {
                a: {"threat_norm": c["THREAT_NORM"], "category": c["CATEGORY"], "aim": c.get("AIM", "fool")}
                for a, c in constants.items()
            }
        )

    @cached_property
    def threat_norms(self) -> dict[str, str]:
        """Attack → its threat norm, in which perturbations are measured."""
        return {a: contracts.declaration("attacks", a).constants["THREAT_NORM"] for a in self.config["attacks"]}

    def radii_settings(self) -> dict[str, Any]:
        """Per norm its radii and headline; None where they are calibrated, which only norms in use are. Those that
        are given are there in any case: the first attack by another norm then remakes no other attack."""
        given = {norm: radii for norm, radii in self.dataset["eps"].items() if radii != "calibrate"}
        return canonical({**dict.fromkeys(self.threat_norms.values()), **given})

    @property
    def calibration(self) -> list[tuple[str, int]]:
        """(arch, seed) of the original models that radii are calibrated on; none if all are given."""
        c = self.config
        return [(arch, c["seeds"][0]) for arch in c["archs"]] if None in self.radii_settings().values() else []

    def probe_settings(self) -> dict[str, Any]:
        return canonical(self.config["settings"]["probe"])

    def features_settings(self) -> dict[str, Any]:
        return canonical(self.config["settings"]["features"])

    def relearn_settings(self, arch: str) -> dict[str, Any]:
        """Of the architecture's recipe only what relearning uses."""
        given, recipe = self.config["settings"]["relearn"], self.arch(arch)["train"]
        own = {key: recipe[key] for key in ("optimizer", "momentum")}
        lr = recipe["lr"] * given["relative_lr"]
        return canonical({"images": given["images"], "steps": given["steps"], "lr": lr, **own})

    def report_settings(self) -> dict[str, Any]:
        """What figures and tables need beyond the numbers; see ReportSettings, which gets the headline radii later."""
        c = self.config
        return canonical(
            {
                "archs": c["archs"],
                "forgets": c["forgets"],
                "methods": [*self.methods, *self.external],
                "scopes": self.scopes,
                "attacks": [a for a in c["attacks"] if self.gate_settings()[a]["aim"] == "fool"],
                "threat_norms": self.threat_norms,
                "labels": {a: self.arch(a)["label"] for a in c["archs"]},
                "external": self.external,
                "notes": self.notes,
            }
        )

    def analysis_settings(self) -> dict[str, Any]:
        """Statistics' own, and the attack whose numbers conjectures are judged by."""
        attack = self.report_settings()["attacks"][-1]
        return canonical({**self.config["settings"]["analysis"], "attack": attack, "threat_norms": self.threat_norms})

    def _execution(self) -> dict[str, Any]:
        return {"augment": self.dataset["augment"], "precision": self.config["precision"]}
