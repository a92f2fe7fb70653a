"""Time, FLOPs and memory of each method on each scope, relative to exact retraining."""

from collections.abc import Mapping

import pandas as pd

from unlearn.api.figures import Figure, ReportSettings, cells, controls, groups, legend, name, plt, seeds

NEEDS = ("comparisons",)
MEASURED = ("cost",)
QUANTITIES = {
    "relative_seconds": "time / retrain's",
    "relative_flops": "FLOPs / retrain's",
    "relative_memory": "peak memory / retrain's",
}


def data(tables: Mapping[str, pd.DataFrame], settings: ReportSettings) -> pd.DataFrame:
    """Mean and interval over seeds of the ratios, of every cell but the controls."""
    frame = tables["comparisons"]
    frame = frame[frame["metric"].isin(QUANTITIES) & ~controls(frame)]
    return cells(frame[["arch", "forget", "method", "scope", "metric", "mean", "low", "high", "n"]], settings)


def draw(frame: pd.DataFrame, settings: ReportSettings) -> Figure:
    """A row per quantity, a column per architecture and forget set, bars grouped by scope."""
    columns, methods = groups(frame), list(dict.fromkeys(frame["method"]))
    scopes = [scope for scope in settings.markers if scope in set(frame["scope"])]
    rows = len(QUANTITIES)
    size = 4.2 * len(columns), 0.6 + 2.2 * rows
    figure, axes = plt.subplots(
        rows, len(columns), figsize=size, squeeze=False, sharex=True, sharey="row", layout="constrained"
    )
    width = 0.8 / len(methods)
    for row, (metric, label) in enumerate(QUANTITIES.items()):
        axes[row][0].set_ylabel(label)
        for axis, (arch, forget) in zip(axes[row], columns, strict=True):
            panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget) & (frame["metric"] == metric)]
            for i, method in enumerate(methods):
                heights = panel[panel["method"] == method].set_index("scope")["mean"].reindex(scopes)
                places = [s + (i - (len(methods) - 1) / 2) * width for s in range(len(scopes))]
                axis.bar(places, heights, width * 0.9, color=settings.colours[method], label=name(method))
            axis.axhline(1, color="black", lw=1, ls="--", label="Retrain")
            axis.grid(axis="x", visible=False)
            axis.set_xticks(range(len(scopes)), scopes)
            if row == 0:
                axis.set_title(settings.label(arch, forget))
            elif row == rows - 1:
                axis.set_xlabel("layer scope")
    legend(figure, axes[0][0], f"mean of {seeds(frame)}")
    return figure
