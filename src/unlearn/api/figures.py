"""For files in ``figures/``: the study's order and names, style, colours, markers and panels. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlearn.run import ALL, CONTROLS

__all__ = [
    "ALL",
    "COLOURS",
    "CONTROLS",
    "MARKERS",
    "NAMES",
    "STYLE",
    "Axes",
    "Figure",
    "FigureError",
    "ReportSettings",
    "cells",
    "controls",
    "errors",
    "groups",
    "legend",
    "name",
    "on_widest_scope",
    "panels",
    "plt",
    "scopes_shown",
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
    "text.parse_math": False,  # a label may hold dollar signs
}
# The first eight are those of Okabe and Ito, which readers without full colour vision can tell apart.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#8C564B"),
    *("#7F3C8D", "#17BECF", "#BCBD22", "#E73F74", "#1D6996", "#94C58C", "#A5AA99", "#4B0082"),
)
CONTROL_COLOURS = dict(zip(CONTROLS, ("0.55", "black"), strict=True))
MARKERS = {"first": "^", "intermediate": "s", "last": "v", "intermediate+last": "D", ALL: "o"}
GROUP_MARKERS = "P*X<>phd"  # of ranges of groups
NAMES = {**{control: control.capitalize() for control in CONTROLS}, "salun": "SalUn"}


@dataclass(frozen=True)
class ReportSettings:
    """What figures and tables need beyond the numbers.

    ``archs``, ``forgets``, ``methods`` and ``scopes`` are in the study's order; ``attacks`` are those that aim to fool
    the model. ``labels``: architecture → printed name; ``threat_norms`` and ``headline_eps``: attack → its norm, and
    the radius that summaries show. ``external``: the ``methods`` that are models unlearned elsewhere; ``notes``: what
    tables say of models that the study did not make from nothing.
    """

    archs: Sequence[str]
    forgets: Sequence[str]
    methods: Sequence[str]
    scopes: Sequence[str]
    attacks: Sequence[str]
    labels: Mapping[str, str]
    threat_norms: Mapping[str, str]
    headline_eps: Mapping[str, float] = field(default_factory=dict)
    external: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def attack(self) -> str:
        """The attack that summaries show: the last one listed."""
        return self.attacks[-1]

    @property
    def eps(self) -> float:
        """The headline radius of ``attack``."""
        return self.headline_eps[self.attack]

    @cached_property
    def colours(self) -> dict[str, str]:
        """Method → colour, the same in all figures of a study; controls are grey and black."""
        methods = [method for method in self.methods if method not in CONTROLS]
        return CONTROL_COLOURS | {method: COLOURS[i % len(COLOURS)] for i, method in enumerate(methods)}

    @cached_property
    def markers(self) -> dict[str, str]:
        """Scope → marker: the named scopes in order of depth, then the study's ranges of groups."""
        ranges = [scope for scope in self.scopes if scope not in MARKERS]
        return MARKERS | {scope: GROUP_MARKERS[i % len(GROUP_MARKERS)] for i, scope in enumerate(ranges)}

    def label(self, arch: str, forget: str, mention: str = ", forget ") -> str:
        """An architecture's printed name, with the forget set if the study has several."""
        return self.labels[arch] + (f"{mention}{forget}" if len(self.forgets) > 1 else "")


def name(method: str) -> str:
    """A method's name as it is printed."""
    return NAMES.get(method, method.upper().replace("_", "-"))


def cells(frame: pd.DataFrame, settings: ReportSettings) -> pd.DataFrame:
    """The frame in the study's order of architectures, forget sets, methods and scopes."""
    order = {
        "arch": settings.archs,
        "forget": settings.forgets,
        "method": settings.methods,
        "scope": list(settings.markers),
    }
    frame = frame.reset_index(drop=True)
    places = {c: frame[c].map({value: i for i, value in enumerate(order[c])}) for c in order if c in frame}
    index = pd.DataFrame(places).sort_values(list(places), kind="stable").index
    return frame.loc[index].reset_index(drop=True)


def controls(frame: pd.DataFrame) -> pd.Series:
    """Whether each row is of a control. Retraining on fewer layers is a method like the others."""
    return frame["method"].isin(CONTROLS) & (frame["scope"] == ALL)


def on_widest_scope(frame: pd.DataFrame, layers: pd.DataFrame, settings: ReportSettings) -> pd.DataFrame:
    """The rows of a figure with one line per method: the controls, models that were unlearned elsewhere, and the other
    methods on the scope of the study that holds the most layers of the architecture. ``layers`` is the table of that
    name."""
    ordered = layers[layers["scope"].isin(settings.scopes)].sort_values(["layers", "parameters"], kind="stable")
    widest = ordered.groupby("arch")["scope"].last()
    methods = ~frame["method"].isin(CONTROLS) & (frame["scope"] == frame["arch"].map(widest))
    return frame[controls(frame) | methods | frame["method"].isin(settings.external)]


def scopes_shown(frame: pd.DataFrame, settings: ReportSettings) -> str:
    """What the legend of such a figure says: the scope of its methods, per architecture where they differ."""
    methods = ~controls(frame) & ~frame["method"].isin(settings.external)
    by_arch = frame[methods].groupby("arch", sort=False)["scope"].first()
    if by_arch.nunique() == 1:
        scopes = by_arch.iloc[0]
    else:
        scopes = ", ".join(f"{scope} ({settings.labels[arch]})" for arch, scope in by_arch.items())
    others = ", ".join(["controls", *map(name, settings.external)])
    return f"scope: {scopes or ALL}" + (f"; {others}: {ALL}" if set(by_arch) - {ALL} else "")


def groups(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The (architecture, forget set) pairs of a frame, in its order; figures have a panel or a column for each."""
    return list(dict.fromkeys(zip(frame["arch"], frame["forget"], strict=True)))


def panels(
    frame: pd.DataFrame, settings: ReportSettings, width: float, height: float
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """One titled panel of ``width`` × ``height`` inches per (architecture, forget set)."""
    pairs = groups(frame)
    size = (width * len(pairs), height)
    figure, axes = plt.subplots(1, len(pairs), figsize=size, squeeze=False, layout="constrained")
    for (arch, forget), axis in zip(pairs, axes[0], strict=True):
        axis.set_title(settings.label(arch, forget))
    return figure, dict(zip(pairs, axes[0], strict=True))


def legend(figure: Figure, axis: Axes, title: str) -> None:
    """One legend above all panels, in as many rows as the figure's width needs."""
    handles, labels = axis.get_legend_handles_labels()
    longest = max(map(len, labels))
    columns = max(1, int(figure.get_figwidth() / (0.5 + 0.07 * longest)))
    rows = -(-len(labels) // columns)
    figure.legend(handles, labels, loc="outside upper center", ncols=-(-len(labels) // rows), title=title)


def seeds(frame: pd.DataFrame) -> str:
    """How many seeds the numbers rest on, for an axis label or caption."""
    fewest, most = int(frame["n"].min()), int(frame["n"].max())
    return f"{fewest}–{most} seeds" if fewest < most else f"{most} seed" + "s" * (most > 1)


def errors(rows: pd.DataFrame, column: str = "mean") -> list[pd.Series] | None:
    """Error-bar lengths [2, N] from low and high; None where there is one seed."""
    if rows["low"].isna().any():
        return None
    return [rows[column] - rows["low"], rows["high"] - rows[column]]
