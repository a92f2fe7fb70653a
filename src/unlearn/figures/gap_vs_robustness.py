"""The fairness-gap of each run against its robustness drop at the headline radius."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from unlearn.api.figures import cells, colours, markers, name, panels, plt

NEEDS = ("metrics", "correlations")
MEASURED = ("fairness_gap", "robust_accuracy")
X, Y = "relative_fairness_gap_mean", "robustness_drop"


def data(tables: dict[str, pd.DataFrame], settings: dict[str, Any]) -> pd.DataFrame:
    """A row per run: x, y, and the correlation of its architecture."""
    run = ["arch", "forget", "method", "scope", "seed"]
    metrics, found = tables["metrics"], tables["correlations"]
    attack, eps = settings["attacks"][-1], settings["headline_eps"][settings["attacks"][-1]]
    x = metrics[(metrics["metric"] == X) & (metrics["role"] == "test")]
    y = metrics[
        (metrics["metric"] == Y) & (metrics["role"] == "test") & (metrics["attack"] == attack) & (metrics["eps"] == eps)
    ]
    pairs = x[[*run, "value"]].merge(y[[*run, "value", "attack", "eps"]], on=run, suffixes=("_x", "_y"))
    chosen = found[
        (found["x"] == X)
        & (found["y"] == Y)
        & (found["role"] == "test")
        & (found["statistic"] == "spearman")
        & (found["attack"] == attack)
        & (found["eps"] == eps)
    ]
    pairs = pairs.merge(chosen[["arch", "coefficient", "low", "high", "p", "n", "seeds"]], on="arch", how="left")
    return cells(pairs.rename(columns={"value_x": "fairness_gap", "value_y": "robustness_drop"}), settings)


def draw(frame: pd.DataFrame, settings: dict[str, Any]) -> Figure:
    figure, axes = panels(frame, settings, 3.8, 3.6)
    palette, shape = colours(settings), markers(settings)
    for (arch, forget), axis in axes.items():
        panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget)]
        for method, scope in panel[["method", "scope"]].drop_duplicates().itertuples(index=False):
            points = panel[(panel["method"] == method) & (panel["scope"] == scope)]
            axis.scatter(
                points["fairness_gap"],
                points["robustness_drop"] * 100,
                color=palette[method],
                marker=shape[scope],
                s=28,
                lw=0,
            )
        found = panel.iloc[0]
        axis.text(0.02, 0.98, _caption(found), transform=axis.transAxes, va="top", fontsize=7)
        axis.margins(y=0.2)
        axis.set_xlabel("relative fairness-gap, mean over layers, test")
    first = next(iter(axes.values()))
    first.set_ylabel(
        f"accuracy lost under {frame['attack'].iloc[0].upper()},\n$\\epsilon$ = {frame['eps'].iloc[0]:g}, test (points)"
    )
    dots = [plt.Line2D([], [], color=palette[m], marker="o", ls="", label=name(m)) for m in settings["methods"]]
    shapes = [
        plt.Line2D([], [], color="0.4", marker=m, ls="", label=s) for s, m in shape.items() if s in set(frame["scope"])
    ]
    figure.legend(handles=dots + shapes, loc="outside right center")
    return figure


def _caption(row: pd.Series) -> str:
    if pd.isna(row["coefficient"]):
        return f"no correlation defined (n = {row['n']:.0f} runs)"
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
    rests_on = f"n = {row['n']:.0f} runs, {row['seeds']:.0f} seed" + ("s" if row["seeds"] > 1 else "")
    return f"Spearman {row['coefficient']:+.2f}{interval},\np = {row['p']:.2g}, {rests_on}"
