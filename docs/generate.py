"""Writes the pages of docs/ that follow from the registries: `python docs/generate.py`."""

import re
import sys
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from unlearn.api.metrics import Metric  # noqa: E402
from unlearn.config import plugins  # noqa: E402
from unlearn.config.settings import Training  # noqa: E402

HEAD = """# Methods

Generated from the files in `src/unlearn/methods` by `python docs/generate.py`; a test keeps it current.

*Sees* are the roles of the data that a method may read; the job refuses it any other. *Cost* is what is run
through the model. A method that is not defined for a kind of forget set is refused when the config is read.
Learning rates do not transfer between architectures: `tune: true` chooses each method's from the grid in its
file, seven values for every method, on a seed that is not reported.

| method | paper | sees | forget sets | settings and defaults | cost |
|---|---|---|---|---|---|
"""


def row(name: str) -> str:
    """A line of the table."""
    declared = plugins.declaration("methods", name)
    papers = ", ".join(dict.fromkeys(re.findall(r"arXiv:[\d.]+\d", declared.doc))) or "control"
    sees = declared.constants["DATA_ROLES"]
    kinds = ", ".join(declared.constants.get("FORGET_KINDS", ())) or "all"
    values = ", ".join(f"{field.name} {field.default}" for field in fields(declared.settings)) or "none"
    trained = issubclass(declared.settings, Training)
    cost = f"epochs over {' and '.join(sees)}" if trained else "one shot" if sees else "nothing"
    return f"| [`{name}`](#{name}) | {papers} | {', '.join(sees) or 'nothing'} | {kinds} | {values} | {cost} |\n"


def section(name: str) -> str:
    """What the method is and where it deviates from its sources: the file's own words."""
    return f"\n## {name}\n\n{plugins.declaration('methods', name).doc.strip()}\n"


def methods() -> str:
    """The page of methods."""
    names = plugins.names("methods")
    return HEAD + "".join(map(row, names)) + "".join(map(section, names))


METRICS_HEAD = """# Metrics

Generated from the files in `src/unlearn/metrics` by `python docs/generate.py`; a test keeps it current.

*Goal*: `max` and `min` say which direction is better, `match_retrain` that the best value is exact retraining's,
`info` that there is none. Comparisons are with exact retraining (`retrain`) and the model that forgot nothing
(`original`) of the same architecture, forget set and seed. Where a whole class is forgotten, its test images are
left out of what is measured on test images.

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
    return f"\n## {file}\n\n{plugins.declaration('metrics', file).doc.strip()}\n"


def metrics() -> str:
    """The page of metrics."""
    files = plugins.names("metrics")
    declared = [
        (file, name, metric) for file in files for name, metric in plugins.load("metrics", file).METRICS.items()
    ]
    return METRICS_HEAD + "".join(metric_row(*each) for each in declared) + "".join(map(metric_section, files))


PAGES = {"methods.md": methods, "metrics.md": metrics}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page())
