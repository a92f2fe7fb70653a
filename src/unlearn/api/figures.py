"""For files in ``figures/``: style, colours, markers and panels, the same in all figures of a study. No torch."""

from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "MARKERS",
    "NAMES",
    "STYLE",
    "Axes",
    "Figure",
    "FigureError",
    "cells",
    "colours",
    "errors",
    "legend",
    "markers",
    "name",
    "panels",
    "plt",
    "seeds",
]


class FigureError(ValueError):
    """A figure that cannot be drawn; the message names it."""


STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "unlearn",
}
# Okabe & Ito's colours first, distinguishable without full colour vision, then others; controls are black and grey.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#8C564B"),
    *("#7F3C8D", "#17BECF", "#BCBD22", "#E73F74", "#1D6996", "#94C58C", "#A5AA99", "#4B0082"),
)
MARKERS = {"first": "^", "intermediate": "s", "last": "v", "intermediate+last": "D", "all": "o"}
OTHER_MARKERS = "P*X<>phd"  # of explicit stage ranges
NAMES = {"original": "Original", "retrain": "Retrain", "salun": "SalUn"}


def name(method: str) -> str:
    """A method's name as it is printed."""
    return NAMES.get(method, method.upper().replace("_", "-"))


def colours(settings: dict[str, Any]) -> dict[str, str]:
    """Method → colour, the same in all figures of a study."""
    others = [m for m in settings["methods"] if m not in ("original", "retrain")]
    return {"original": "0.55", "retrain": "black", **{m: COLOURS[i % len(COLOURS)] for i, m in enumerate(others)}}


def markers(settings: dict[str, Any]) -> dict[str, str]:
    """Scope → marker: the named scopes in order of depth, then the study's stage ranges."""
    ranges = [scope for scope in settings["scopes"] if scope not in MARKERS]
    return MARKERS | {scope: OTHER_MARKERS[i % len(OTHER_MARKERS)] for i, scope in enumerate(ranges)}


def cells(frame: pd.DataFrame, settings: dict[str, Any]) -> pd.DataFrame:
    """The frame in the study's order of architectures, forget sets, methods and scopes."""
    order = {
        "arch": settings["archs"],
        "forget": settings["forgets"],
        "method": settings["methods"],
        "scope": list(markers(settings)),
    }
    frame = frame.reset_index(drop=True)
    present = [column for column in order if column in frame]
    keys = {column: frame[column].map({v: i for i, v in enumerate(order[column])}) for column in present}
    return frame.loc[pd.DataFrame(keys).sort_values(present, kind="stable").index].reset_index(drop=True)


def panels(
    frame: pd.DataFrame, settings: dict[str, Any], width: float, height: float
) -> tuple[Figure, dict[tuple, Axes]]:
    """One panel per (architecture, forget set), titled; figure size in inches per panel."""
    groups = list(dict.fromkeys(zip(frame["arch"], frame["forget"], strict=True)))
    figure, axes = plt.subplots(
        1, len(groups), figsize=(width * len(groups), height), squeeze=False, layout="constrained"
    )
    found = dict(zip(groups, axes[0], strict=True))
    for (arch, forget), panel in found.items():
        panel.set_title(settings["labels"][arch] + (f", forget {forget}" if len(settings["forgets"]) > 1 else ""))
    return figure, found


def legend(figure: Figure, axis: Axes, title: str) -> None:
    """One legend above all panels, in as many rows as the figure's width needs."""
    handles, labels = axis.get_legend_handles_labels()
    longest = max(map(len, labels))
    columns = max(1, int(figure.get_figwidth() / (0.5 + 0.07 * longest)))
    rows = -(-len(labels) // columns)
    figure.legend(handles, labels, loc="outside upper center", ncols=-(-len(labels) // rows), title=title)


def seeds(frame: pd.DataFrame) -> str:
    """How many seeds the numbers rest on, for an axis label or caption."""
    counts = sorted(set(frame["n"]))
    return (
        f"{counts[0]} seed" + ("s" if counts[0] > 1 else "") if len(counts) == 1 else f"{counts[0]}–{counts[-1]} seeds"
    )


def errors(rows: pd.DataFrame, column: str = "mean") -> Any:
    """Error-bar lengths [2, N] from low and high; None where there is one seed."""
    if rows["low"].isna().any():
        return None
    return [rows[column] - rows["low"], rows["high"] - rows[column]]
