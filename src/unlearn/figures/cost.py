"""Time and memory of each method on each scope, relative to exact retraining."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from unlearn.api.figures import cells, colours, legend, markers, name, plt, seeds

NEEDS = ("comparisons",)
MEASURED = ("cost",)
METRICS = {"relative_seconds": "time / retrain's", "relative_memory": "peak tensor memory / retrain's"}


def data(tables: dict[str, pd.DataFrame], settings: dict[str, Any]) -> pd.DataFrame:
    frame = tables["comparisons"]
    frame = frame[frame["metric"].isin(METRICS) & ~frame["method"].isin(["original", "retrain"])]
    return cells(frame[["arch", "forget", "method", "scope", "metric", "mean", "low", "high", "n"]], settings)


def draw(frame: pd.DataFrame, settings: dict[str, Any]) -> Figure:
    """A row per quantity, a column per architecture and forget set, bars grouped by scope."""
    groups = list(dict.fromkeys(zip(frame["arch"], frame["forget"], strict=True)))
    scopes = [s for s in markers(settings) if s in set(frame["scope"])]
    methods = list(dict.fromkeys(frame["method"]))
    palette = colours(settings)
    figure, axes = plt.subplots(
        2, len(groups), figsize=(4.2 * len(groups), 5), squeeze=False, sharex=True, sharey="row", layout="constrained"
    )
    width = 0.8 / len(methods)
    for row, (metric, label) in enumerate(METRICS.items()):
        for column, (arch, forget) in enumerate(groups):
            axis = axes[row][column]
            panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget) & (frame["metric"] == metric)]
            for i, method in enumerate(methods):
                bars = panel[panel["method"] == method].set_index("scope")["mean"].reindex(scopes)
                places = [s + (i - (len(methods) - 1) / 2) * width for s in range(len(scopes))]
                axis.bar(places, bars, width * 0.9, color=palette[method], label=name(method))
            axis.axhline(1, color="black", lw=1, ls="--", label="Retrain")
            axis.grid(axis="x", visible=False)
            axis.set_xticks(range(len(scopes)), scopes)
            if row == 0:
                axis.set_title(
                    settings["labels"][arch] + (f", forget {forget}" if len(settings["forgets"]) > 1 else "")
                )
            else:
                axis.set_xlabel("layer scope")
            if column == 0:
                axis.set_ylabel(label)
    legend(figure, axes[0][0], f"mean of {seeds(frame)}")
    return figure
