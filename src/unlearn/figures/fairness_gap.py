"""The fairness-gap of each normalization layer, by method, each method on its widest scope."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from unlearn.api.figures import cells, colours, legend, name, panels, seeds

NEEDS = ("comparisons", "metrics")
MEASURED = ("fairness_gap",)


def data(tables: dict[str, pd.DataFrame], settings: dict[str, Any]) -> pd.DataFrame:
    """epsilon^l per layer in order of execution; mean and interval over seeds."""
    frame = tables["comparisons"]
    frame = frame[(frame["metric"] == "fairness_gap") & (frame["role"] == role(frame))]
    order = tables["metrics"].query("metric == 'fairness_gap'").drop_duplicates(["arch", "layer"])
    depth = order.groupby("arch").cumcount().set_axis(pd.MultiIndex.from_frame(order[["arch", "layer"]]))
    frame = frame.assign(depth=[depth[key] for key in zip(frame["arch"], frame["layer"], strict=True)])
    columns = ["arch", "forget", "method", "scope", "role", "layer", "depth", "mean", "low", "high", "n"]
    return cells(frame[columns], settings)


def role(frame: pd.DataFrame) -> str:
    """The test role where it was probed, else the first."""
    roles = frame["role"].dropna().unique()
    return "test" if "test" in roles else roles[0]


def draw(frame: pd.DataFrame, settings: dict[str, Any]) -> Figure:
    widest = "all" if (frame["scope"] == "all").any() else frame["scope"].iloc[-1]
    figure, axes = panels(frame, settings, 4.2, 3.2)
    palette = colours(settings)
    for (arch, forget), axis in axes.items():
        panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget)]
        for method, scope in panel[["method", "scope"]].drop_duplicates().itertuples(index=False):
            if scope not in ("all", widest):
                continue
            line = panel[(panel["method"] == method) & (panel["scope"] == scope)].sort_values("depth")
            control = method in ("original", "retrain")
            axis.plot(
                line["depth"],
                line["mean"],
                color=palette[method],
                lw=2 if control else 1,
                marker=".",
                label=name(method),
                zorder=3 if control else 2,
            )
            if line["low"].notna().all():
                axis.fill_between(line["depth"], line["low"], line["high"], color=palette[method], alpha=0.15, lw=0)
        layers = panel.drop_duplicates("depth").sort_values("depth")
        step = max(1, len(layers) // 24)
        axis.set_xticks(layers["depth"][::step], layers["layer"][::step], rotation=90, fontsize=6)
        axis.set_xlabel("normalization layer, in order of execution")
        axis.set_ylim(bottom=0)
    first = next(iter(axes.values()))
    first.set_ylabel(f"fairness-gap $\\epsilon^l$, {frame['role'].iloc[0]} images")
    legend(figure, first, f"scope: {widest} ({seeds(frame)})")
    return figure
