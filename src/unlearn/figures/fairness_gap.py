"""The fairness-gap of each normalization layer on test images: methods on the widest scope, and the controls."""

from collections.abc import Mapping

import pandas as pd

from unlearn.api.figures import (
    CONTROLS,
    Figure,
    ReportSettings,
    cells,
    legend,
    name,
    on_widest_scope,
    panels,
    scopes_shown,
    seeds,
)

NEEDS = ("comparisons", "layers", "metrics")
MEASURED = ("fairness_gap",)


def data(tables: Mapping[str, pd.DataFrame], settings: ReportSettings) -> pd.DataFrame:
    """epsilon^l per layer in order of execution; mean and interval over seeds."""
    frame = tables["comparisons"]
    frame = frame[(frame["metric"] == "fairness_gap") & (frame["role"] == "test")]
    frame = on_widest_scope(frame, tables["layers"], settings)
    order = tables["metrics"].query("metric == 'fairness_gap'").drop_duplicates(["arch", "layer"])
    depth = order.groupby("arch").cumcount().set_axis(pd.MultiIndex.from_frame(order[["arch", "layer"]]))
    frame = frame.assign(depth=[depth[key] for key in zip(frame["arch"], frame["layer"], strict=True)])
    columns = ["arch", "forget", "method", "scope", "role", "layer", "depth", "mean", "low", "high", "n"]
    return cells(frame[columns], settings)


def draw(frame: pd.DataFrame, settings: ReportSettings) -> Figure:
    """A panel per architecture and forget set, a line per method."""
    figure, axes = panels(frame, settings, 4.2, 3.2)
    for (arch, forget), axis in axes.items():
        panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget)].sort_values("depth")
        for method in settings.methods:
            line, control = panel[panel["method"] == method], method in CONTROLS
            style = {"color": settings.colours[method], "zorder": 3 if control else 2}
            axis.plot(line["depth"], line["mean"], marker=".", lw=2 if control else 1, label=name(method), **style)
            if line["low"].notna().all():
                axis.fill_between(line["depth"], line["low"], line["high"], color=style["color"], alpha=0.15, lw=0)
        layers = panel.drop_duplicates("depth")
        step = max(1, len(layers) // 24)
        axis.set_xticks(layers["depth"][::step], layers["layer"][::step], rotation=90, fontsize=6)
        axis.set_xlabel("normalization layer, in order of execution")
        axis.set_ylim(bottom=0)
    first = next(iter(axes.values()))
    first.set_ylabel("fairness-gap ε of the layer, test images")
    legend(figure, first, f"{scopes_shown(frame, settings)} ({seeds(frame)})")
    return figure
