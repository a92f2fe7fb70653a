"""Writes what follows from the code: pages of docs/, and the JSON schema of configs. `make generated` runs it."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402

from unlearn.api.metrics import Metric  # noqa: E402
from unlearn.config import contracts, plugins, strict_yaml  # noqa: E402
from unlearn.config.schema import json_schema  # noqa: E402
from unlearn.config.settings import Training  # noqa: E402
from unlearn.models import classifier  # noqa: E402
from unlearn.models.classifier import Spec  # noqa: E402
from unlearn.models.scopes import groups as model_groups  # noqa: E402
from unlearn.stages.layers import held  # noqa: E402

HEAD = """# Methods

Generated from the files in `src/unlearn/methods` by `make generated`; a test keeps it current.

*Reads* are the roles of the data that a method may read; a request for another role stops the run. *Cost* is the data
that run through the model. A config that asks a method for a kind of forget set it is not defined for is refused.
Learning rates do not transfer between architectures: `tune: true` chooses each method's from the tuning grid in its
file, seven values for every method, on a seed that is not reported.

| method | paper | reads | forget sets | settings and defaults | cost |
|---|---|---|---|---|---|
"""


def row(name: str) -> str:
    """A line of the table."""
    declared = contracts.declaration("methods", name)
    papers = ", ".join(dict.fromkeys(re.findall(r"arXiv:[\d.]+\d", declared.doc))) or "control"
    reads = declared.constants["DATA_ROLES"]
    kinds = ", ".join(declared.constants.get("FORGET_KINDS", ())) or "all"
    values = ", ".join(f"{name} {field.default}" for name, field in declared.settings.model_fields.items()) or "none"
    trained = issubclass(declared.settings, Training)
    cost = f"epochs over {' and '.join(reads)}" if trained else "one shot" if reads else "nothing"
    return f"| [`{name}`](#{name}) | {papers} | {', '.join(reads) or 'nothing'} | {kinds} | {values} | {cost} |\n"


def section(name: str) -> str:
    """What the method is and where it deviates from its sources: the file's own words."""
    return f"\n## {name}\n\n{contracts.declaration('methods', name).doc.strip()}\n"


def methods() -> str:
    """The page of methods."""
    names = plugins.names("methods")
    return HEAD + "".join(map(row, names)) + "".join(map(section, names))


METRICS_HEAD = """# Metrics

Generated from the files in `src/unlearn/metrics` by `make generated`; a test keeps it current.

*Goal*: `max` and `min` say which direction is better, `match_retrain` that the best value is exact retraining's,
`info` that there is none. Comparisons are with exact retraining (`retrain`) and the model that forgot nothing
(`original`) of the same architecture, forget set and seed. Where a whole class is forgotten, its test images are
left out of what is measured on test images. A value that is not defined, such as a share of no images, is null in the
tables, and the column `reason` says why; statistics leave it out and count it.

| metric | label | range | unit | goal | file |
|---|---|---|---|---|---|
"""


def metric_row(file: str, name: str, metric: Metric) -> str:
    """A line of the table of metrics."""
    low, high = ("" if bound is None else f"{bound:.4g}" for bound in (metric.low, metric.high))
    limits = f"[{low or '-∞'}, {high or '∞'}{']' if high else ')'}" if low else "any"
    label = metric.label.replace("|", r"\|")
    return f"| `{name}` | {label} | {limits} | {metric.unit or '1'} | {metric.goal} | [`{file}`](#{file}) |\n"


def metric_section(file: str) -> str:
    """Definition and source: the file's own words."""
    return f"\n## {file}\n\n{contracts.declaration('metrics', file).doc.strip()}\n"


def metrics() -> str:
    """The page of metrics."""
    files = plugins.names("metrics")
    declared = [
        (file, name, metric) for file in files for name, metric in plugins.load("metrics", file).METRICS.items()
    ]
    return METRICS_HEAD + "".join(metric_row(*each) for each in declared) + "".join(map(metric_section, files))


CONFIG_HEAD = """# Keys of a config

Generated from `src/unlearn/config/schema.py` by `make generated`; a test keeps it current.

`config.yaml` is the default study. The file of another study is laid over it and names only what differs; what neither
says has the default of this page. `<name>` is any name. An editor with YAML support completes and checks keys by
`workflow/schemas/config.schema.json`, which the first line of a file names.

| key | type | default | what it says |
|---|---|---|---|
"""


def config() -> str:
    """The page of the keys of a config."""
    return CONFIG_HEAD + "".join(config_rows(json_schema(), ""))


def config_rows(node: dict[str, Any], path: str) -> Iterator[str]:
    """A line of the table for each key below ``path``; a section is described by its class."""
    for key, value in node.get("properties", {}).items():
        value = {**referred(value), **value}
        default = "" if "default" not in value or "properties" in value else f"`{json.dumps(value['default'])}`"
        text = value.get("description", "").replace("|", r"\|")
        yield f"| `{path}{key}` | {type_text(value)} | {default} | {text} |\n"
        yield from config_rows(value, f"{path}{key}.")
    if isinstance(more := node.get("additionalProperties"), dict):
        name = "/".join(node.get("propertyNames", {}).get("enum", ["name"]))
        for option in map(referred, more.get("oneOf", [more])):
            if "properties" in option:
                kind = option["properties"].get("kind", {}).get("const")
                named = f"`{path}<{name}>`" + (f", kind {kind}" if kind else "")
                yield f"| {named} | section | | {option['description']} |\n"
                yield from config_rows(option, f"{path}<{name}>.")


def referred(node: dict[str, Any]) -> dict[str, Any]:
    """What a ``$ref`` of the schema stands for, or the node itself."""
    return json_schema()["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def type_text(node: dict[str, Any]) -> str:
    """A type with its range, such as "integer ≥ 1"."""
    node = referred(node)
    if options := node.get("anyOf", node.get("oneOf")):
        return " or ".join(map(type_text, options))
    if choices := node.get("enum", [node["const"]] if "const" in node else None):
        return ", ".join(f"`{choice}`" for choice in choices)
    if node.get("type") == "array":
        return f"list of {type_text(node['items'])}"
    if node.get("type") == "object":
        return "section"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = ", ".join(f"{sign} {node[name]:.10g}" for name, sign in signs.items() if name in node)
    names = {"string": "text", "boolean": "true or false"}
    return " ".join(filter(None, [names.get(node.get("type"), node.get("type", "any")), limits]))


def schema() -> str:
    """The JSON schema of configs, for editors."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A study of unlearn"}
    return json.dumps(head | json_schema(), indent=2) + "\n"


SCOPES_HEAD = """# Layer scopes

Generated by `make generated`; a test keeps it current.

timm orders the parameters of every model in groups. The groups between stem and head are cut into thirds: `first` (with
the stem), `intermediate` and `last` (with final norm and head). **Thirds of the groups are not thirds of the weights or
of the layers**: of a ResNet, groups are its four stages, and the third with two of them holds most of its layers; of a
hybrid, timm calls the whole convolutional part the stem. So compare scopes by their shares, not by their names, and
name `"groups: 3-5"` where thirds do not suit. `layers.parquet` holds these numbers for each study, and the cost of each
run holds those of its scope.

Share of the parameters, and of the layers (modules with parameters of their own), in each scope, for ten classes:

| model | used by | parameters | groups | first | intermediate | last | intermediate+last |
|---|---|--:|--:|--:|--:|--:|--:|
"""
FAMILIES = (
    "resnet18",
    "resnet34",
    "resnet101",
    "vit_small_patch16_224",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
)
FAMILIES += ("mobilevit_s", "vit_small_r26_s32_224")
CUTS = ("first", "intermediate", "last", "intermediate+last")


def scopes() -> str:
    """The page of layer scopes: the architectures of the studies, and one of each other family."""
    base, overlays = strict_yaml.read(ROOT / "config.yaml"), sorted((ROOT / "studies").glob("*.yaml"))
    rows = [architecture(spec, "`config.yaml`", 1) for spec in base["settings"]["archs"].values()]
    for path in overlays:
        specs = strict_yaml.read(path).get("settings", {}).get("archs", {}).values()
        rows += [architecture(spec, f"`studies/{path.name}`", 3) for spec in specs if "model" in spec]
    rows += [architecture({"label": name, "model": name}, "", 3) for name in FAMILIES]
    return SCOPES_HEAD + "".join(rows)


def architecture(spec: dict[str, Any], user: str, channels: int) -> str:
    """A line of the table."""
    keys = {key: spec[key] for key in ("model", "args", "stem") if key in spec}
    with torch.device("meta"):
        model = classifier.create(Spec(classes=10, shape=(channels, 224, 224), **keys), 0)
    shares = {row["scope"]: (row["parameter_share"], row["layer_share"]) for row in held(model, "", CUTS)}
    texts = [" / ".join(f"{100 * share:.0f} %" for share in shares[scope]) for scope in CUTS]
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    groups = max(model_groups(model).values()) + 1
    return f"| {spec['label']} | {user} | {millions:.2f} M | {groups} | {' | '.join(texts)} |\n"


GENERATED = {
    "docs/scopes.md": scopes,
    "docs/methods.md": methods,
    "docs/metrics.md": metrics,
    "docs/config.md": config,
    "workflow/schemas/config.schema.json": schema,
}

if __name__ == "__main__":
    for path, content in GENERATED.items():
        (ROOT / path).write_text(content(), encoding="utf-8")
