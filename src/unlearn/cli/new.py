"""``unlearn new``: looks at data, and writes the overlay of a study on them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from torch import nn

from unlearn.cli import layout, look, recognise, studies
from unlearn.cli.said import said, shown
from unlearn.config import strict_yaml
from unlearn.config.given import local
from unlearn.config.schema import Config
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.config.validation import convert
from unlearn.io import tables
from unlearn.models.classifier import Classifier
from unlearn.models.scopes import ScopeError
from unlearn.run import ALL
from unlearn.stages.layers import LayersSettings, held_by_all
from unlearn.stages.split import split

SMALL = 64  # pixels of a side, below which the small ResNet of config.yaml suits
OWN = "resnet"  # its name there
LARGE = "resnet18"
RECIPES = {  # of models with batch norms, and of transformers
    "sgd": {"epochs": 30, "lr": 0.05, "batch_size": 64, "weight_decay": 0.0005, "schedule": "cosine", "warmup": 2},
    "adamw": {"epochs": 60, "lr": 0.001, "batch_size": 64, "optimizer": "adamw", "weight_decay": 0.05,
              "schedule": "cosine", "warmup": 5},
}  # fmt: skip
TEXT = """\
# Laid over config.yaml, which has all that is not here. docs/config.md lists all keys.
#   unlearn inspect {file}
#   snakemake -s {snakefile} --configfile {file} --cores 8 all

study: {study}
dataset: {study}
archs: [{arch}]
forgets: [{forget}]
{scopes}
settings:
  datasets:
    {study}:
      source: {source}
      # {why}
      normalize: {normalize}
      augment: {{crop: 0, flip: false}}   # flip: true for images whose mirror image is of the same class
      eps: {{linf: calibrate, l2: calibrate}}   # radii at which PGD leaves 75, 50, 25 and 5 % of the accuracy
"""
CONSTANTS = "Constants, not measured from the images: that would leave a trace of those that are forgotten."
OF_WEIGHTS = "Constants under which the weights know the images; not measured from these, which would leave a trace."


class Wanted(NamedTuple):
    """What the command was given. ``weights``, ``model`` and ``forget`` may be None."""

    study: str
    data: str
    weights: str | None
    model: str | None
    forget: str | None


def new(wanted: Wanted) -> Iterator[str]:
    """Write ``STUDY.yaml`` in the current folder; yields lines on what was seen.

    Raises ConfigError, DataError, ModelError or SplitError for what cannot be a study, and FileExistsError for a study
    that is there: nothing is written then.
    """
    convert(wanted.study, Config.model_fields["study"].rebuild_annotation(), "STUDY")
    file = Path(f"{wanted.study}.yaml")
    if wanted.study in strict_yaml.read(studies.base())["settings"]["datasets"]:
        raise ConfigError(f"STUDY: {wanted.study!r} is a data set of config.yaml, whose settings would be mixed in")
    if file.exists():
        raise FileExistsError(f"{file}: is there already")
    if wanted.weights and not wanted.model:
        raise ConfigError("--weights: needs --model, the name of timm's or FILE.py:FUNCTION that they are of")
    for path in filter(None, (wanted.weights, wanted.forget)):
        if not Path(path).is_file():
            raise ConfigError(f"{path}: no such file")
    with tempfile.TemporaryDirectory() as folder:
        text = yield from _text(wanted, file, f"{folder}/dataset.parquet")
    with open(file, "x", encoding="utf-8") as out:
        out.write(text)
    yield f"wrote {file}; next: unlearn inspect {file}"


def _text(wanted: Wanted, file: Path, table: str) -> Iterator[str]:
    """Yields lines, returns the overlay."""
    source = layout.source(wanted.data)
    yield f"{wanted.data}: read as {_flow(source)}"
    source, found = look.suited(source, table, grey=not wanted.weights or recognise.channels(wanted.weights) == 1)
    yield from found
    yield from look.copies(table)
    keys = {"study": wanted.study, "file": file, "snakefile": studies.base().parent / "Snakefile", "scopes": ""}
    keys |= {"source": _flow(source), "arch": OWN, "forget": "random10", "why": CONSTANTS}
    keys["normalize"] = _flow(recognise.NORMALIZATIONS[recognise.DEFAULT])
    more = ""
    if wanted.model or min(tables.metadata(table)["shape"][1:]) >= SMALL:
        model = wanted.model or LARGE
        net = recognise.built(table, model, wanted.weights)
        keys["arch"] = "own" if local(model) else model
        if wanted.weights:
            keys["normalize"], lines = recognise.normalized(net, table)
            keys |= {"normalize": _flow(keys["normalize"]), "why": OF_WEIGHTS}
            yield from lines
        more += _architecture(keys["arch"], model, wanted.weights, net)
    if wanted.forget:
        keys["forget"] = "listed"
        more += f"  forgets:\n    listed: {_flow({'kind': _kind(wanted.forget), 'file': wanted.forget})}\n"
    text = TEXT.format(**keys) + more
    study = _study(text)
    try:
        yield from _models(study, table)
    except ScopeError as error:
        keys["scopes"] = f"scopes: [{ALL}]   # the model has no groups of layers (docs/your-model.md)\n"
        yield f"{error}: scopes are [{ALL}]"
        text = TEXT.format(**keys) + more
        study = _study(text)
        yield from _models(study, table)
    with said() as log:
        split(table, f"{table}.split", keys["forget"], study.split_settings(keys["forget"]))
    yield from shown(log)
    return text


def _study(text: str) -> Study:
    return Study(studies.laid_over(strict_yaml.read(studies.base()), yaml.safe_load(text)))


def _models(study: Study, table: str) -> Iterator[str]:
    with said() as log:
        list(held_by_all(table, LayersSettings(**study.layers_settings()), "cpu"))
    yield from shown(log)


def _architecture(name: str, model: str, weights: str | None, net: Classifier) -> str:
    """The section of an architecture."""
    recipe = RECIPES["adamw" if any(isinstance(module, nn.LayerNorm) for module in net.modules()) else "sgd"]
    spec = {"label": name, "model": model, "stem": net.spec.stem, **({"weights": weights} if weights else {})}
    lines = [*(f"{key}: {_flow(value)}" for key, value in spec.items())]
    why = "that of your weights, which exact retraining must follow" if weights else "a start; yours may be better"
    lines.append(f"train: {_flow(recipe)}   # {why}")
    return f"  archs:\n    {name}:" + "".join(f"\n      {line}" for line in lines) + "\n"


def _kind(forget: str) -> str:
    """Whether a list of images holds ids of the dataset table or files."""
    lines = Path(forget).read_text(encoding="utf-8", errors="replace").split()
    return "ids" if lines and all(line.isascii() and line.isdigit() for line in lines) else "files"


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf"))
        .removesuffix("...\n")
        .strip()
    )
