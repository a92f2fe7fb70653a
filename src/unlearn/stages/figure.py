"""figure: one figure from the tables of the whole study."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from unlearn.analysis.radii import headlines
from unlearn.api.figures import STYLE, Figure, FigureError, ReportSettings, plt
from unlearn.config import plugins
from unlearn.io import tables

log = logging.getLogger("unlearn")


def figure(name: str, pdf: str, png: str, csv: str, settings: ReportSettings, **inputs: str) -> None:
    """Draw a figure. ``inputs``: the tables that it needs, and radii; the CSV holds exactly the plotted numbers. A
    figure of metrics that no model of the study has, such as a fairness-gap without normalization layers, says so.

    Raises FigureError where there are no numbers though they were measured.
    """
    module = plugins.load("figures", name)
    settings = replace(settings, headline_eps=headlines(inputs["radii"], settings.threat_norms))
    frames = {need: tables.read(tables.named(need), inputs[need]).to_pandas() for need in module.NEEDS}
    frame = module.data(frames, settings)
    absent = _absent(module.MEASURED, frames.values())
    if not isinstance(frame, pd.DataFrame) or (frame.empty and not absent):
        raise FigureError(f"figure {name!r} has nothing to plot; are its metrics in the config?")
    with plt.rc_context(STYLE):
        drawn = _note(absent) if frame.empty else module.draw(frame, settings)
        if not isinstance(drawn, Figure):
            raise FigureError(f"figure {name!r}: draw gives a {type(drawn).__name__}, must give a Figure")
        frame.to_csv(csv, index=False)
        drawn.savefig(png)
        drawn.savefig(pdf, metadata={"CreationDate": None})
        plt.close(drawn)


def _absent(measured: Sequence[str], frames: Iterable[pd.DataFrame]) -> list[str]:
    """The metrics of these files of which the tables hold no value."""
    held: set[str] = set()
    for frame in (frame for frame in frames if "metric" in frame):
        held.update(frame.loc[frame["value" if "value" in frame else "mean"].notna(), "metric"])
    return [name for file in measured for name in plugins.load("metrics", file).METRICS if name not in held]


def _note(absent: Sequence[str]) -> Figure:
    figure = plt.figure(figsize=(4, 1))
    text = f"nothing to plot: no model of this study has {', '.join(absent)}"
    figure.text(0.5, 0.5, text, ha="center", va="center")
    log.warning(text)
    return figure
