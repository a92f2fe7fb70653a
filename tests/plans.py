"""The jobs of a study by their messages, as ``tiny.Copy.planned`` gives them.

A ``study`` is an overlay of config.yaml, as a mapping.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from conftest import ROOT

Study = Mapping[str, Any]
Jobs = set[str]

DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
DATA = {"Dataset: digits"}
GRID = {"Radii of attacks"}
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
    return DATA | GRID | LAYERS | splits(study) | pretraining(study) | of_runs(study, *WHOLE_RUN) | end(study)
