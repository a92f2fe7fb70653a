"""Plans as data: what Snakemake would run, what the fingerprints and params say that it should, and jobs by message.

A ``study`` is an overlay of config.yaml, as a mapping.
"""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import project
import replay
import yaml
from conftest import ROOT
from tiny import WarmCopy

from unlearn.fingerprint import Sources

Study = Mapping[str, Any]
Jobs = set[str]

DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
DATA = {"Dataset: digits"}
GRID = {"Radii of attacks"}
COMPOSITION = {"Collect composition"}
LAYERS = {"Layers of every scope and architecture"}
AFTER_MODEL = ("predict", "probe", "attack", "measure")
WHOLE_RUN = ("unlearn", *AFTER_MODEL)


def splits(study: Study) -> Jobs:
    return {f"Split: what {forget} forgets" for forget in (DEFAULT | study)["forgets"]}


def pretraining(study: Study) -> Jobs:
    models = list(itertools.product(study["archs"], study["seeds"]))
    return {
        *(f"Pretrain: {arch}, seed {seed}" for arch, seed in models),
        *(f"Follow: the fairness-gap along pretraining of {arch}, seed {seed}" for arch, seed in models),
        "Collect trajectory",
    }


def of_runs(study: Study, *steps: str, methods: Iterable[str] = ()) -> Jobs:
    """The jobs of ``steps`` for all runs of the methods, in a study; "attack" stands for all its attacks."""
    study = DEFAULT | study
    methods = methods or ["original", "retrain", *study["methods"]]
    wanted = [step for step in steps if step != "attack"]
    wanted += [f"attack by {attack}" for attack in study["attacks"] if "attack" in steps]
    found = set()
    for arch, forget, method, seed in itertools.product(study["archs"], study["forgets"], methods, study["seeds"]):
        for scope in ["all"] if method in ("original", "retrain") else study["scopes"]:
            made = {
                "original": f"Unlearn: original on all layers of {arch}, {forget}, seed {seed}",
                "retrain": f"Retrain: {arch} without {forget}, all layers, seed {seed}",
            }.get(method, f"Unlearn: {method} on {scope} layers of {arch}, {forget}, seed {seed}")
            found |= {
                made if step == "unlearn" else f"{step.capitalize()}: {method}-{scope}, {arch}, {forget}, seed {seed}"
                for step in wanted
            }
    return found


def figures(study: Study) -> Jobs:
    return {f"Figure: {name}" for name in (DEFAULT | study)["figures"]}


def report(study: Study) -> Jobs:
    return {*figures(study), "Main table"}


def analysis(study: Study) -> Jobs:
    return {"Compare with exact retraining, correlate, judge the conjectures", *report(study)}


def end(study: Study) -> Jobs:
    """What sums up a study."""
    return {"Collect metrics", "Collect failures", "Gates", *analysis(study)}


def everything(study: Study) -> Jobs:
    made = DATA | GRID | LAYERS | splits(study) | COMPOSITION | pretraining(study)
    return made | of_runs(study, *WHOLE_RUN) | end(study)


class Planned(WarmCopy):
    """A copy of the project with a study, finished as far as Snakemake can see."""

    def __init__(self, root: Path, study: Study):
        super().__init__(root, yaml.safe_dump(study))
        for path in (root / name for job in self.plan().values() for name in job["outputs"]):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        # Every file is there and recorded as made by what lies here. Plans depend on nothing else; nothing is trained.
        self.run("--touch", "--forceall", "all", "--cores", "50")

    def plan(self, *arguments: str) -> replay.Jobs:
        """All jobs by their outputs, as ``benchmarks/jobs.py`` writes them."""
        done = self.snakemake("-n", *(arguments or ["all"]))
        assert done.returncode == 0, done.stderr
        return {" ".join(job["outputs"]): job for job in json.loads((self.root / "jobs.json").read_text())}

    @contextlib.contextmanager
    def replaced(self, file: str, text: str) -> Iterator[None]:
        """Another text in a file for a while; a file that is not there is written."""
        path = self.root / file
        before = path.read_bytes() if path.exists() else None
        path.write_text(text)
        try:
            yield
        finally:
            path.unlink() if before is None else path.write_bytes(before)

    @contextlib.contextmanager
    def appended(self, *files: str, text: str = "\nANSWER = 42\n") -> Iterator[None]:
        """One more statement at the end of files."""
        with contextlib.ExitStack() as stack:
            for file in files:
                stack.enter_context(self.replaced(file, (self.root / file).read_text() + text))
            yield

    def configured(self, study: Study | str) -> contextlib.AbstractContextManager:
        """Another config for a while."""
        return self.replaced(project.OVERLAY, study if isinstance(study, str) else yaml.safe_dump(study))


def remade(before: replay.Jobs, after: replay.Jobs) -> Jobs:
    """The jobs of ``after`` that follow from it that ``before`` is finished, by their inputs and params."""
    return {after[outputs]["message"] for outputs in replay.remade(before, after)}


def with_code(jobs: replay.Jobs, package: Path) -> replay.Jobs:
    """The jobs with the fingerprints of a package as it is now."""
    sources = Sources(package)
    digests: dict[str, str] = {}

    def now(code: str) -> str:
        if code not in digests:
            digests[code] = sources.digest(*code.split()[1:])
        return digests[code]

    return {
        outputs: job | {"params": job["params"] | {"code": now(job["params"]["code"])}} for outputs, job in jobs.items()
    }
