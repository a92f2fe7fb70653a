"""The fairness-gap of each run against its robustness drop at the headline radius, on test images."""

from collections.abc import Mapping

import pandas as pd

from unlearn.api.figures import Figure, ReportSettings, cells, name, panels, plt

NEEDS = ("metrics", "correlations")
MEASURED = ("fairness_gap", "robust_accuracy")
RUN = ["arch", "forget", "method", "scope", "seed"]
X, Y = "relative_fairness_gap_mean", "robustness_drop"


def data(tables: Mapping[str, pd.DataFrame], settings: ReportSettings) -> pd.DataFrame:
    """A row per run: x, y (null where not defined), and Spearman's correlation of its architecture."""
    metrics, correlations = (tables[name].query("role == 'test'") for name in NEEDS)
    attacked = "attack == @settings.attack and eps == @settings.eps"
    x = metrics.query("metric == @X")[[*RUN, "value"]]
    y = metrics.query(f"metric == @Y and {attacked}")[[*RUN, "value", "attack", "eps"]]
    spearman = correlations.query(f"x == @X and y == @Y and statistic == 'spearman' and {attacked}")
    frame = x.merge(y, on=RUN, suffixes=("_x", "_y"))
    frame = frame.rename(columns={"value_x": "fairness_gap", "value_y": "robustness_drop"})
    shown = spearman[["arch", "coefficient", "low", "high", "p", "n", "seeds"]]
    return cells(frame.merge(shown, on="arch", how="left"), settings)


def draw(frame: pd.DataFrame, settings: ReportSettings) -> Figure:
    """A panel per architecture and forget set, a dot per run: its colour is the method, its shape the scope."""
    figure, axes = panels(frame, settings, 3.8, 3.6)
    for (arch, forget), axis in axes.items():
        panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget)]
        for (method, scope), runs in panel.groupby(["method", "scope"], sort=False):
            style = {"color": settings.colours[method], "marker": settings.markers[scope]}
            axis.scatter(runs["fairness_gap"], runs["robustness_drop"] * 100, s=28, lw=0, **style)
        axis.text(0.02, 0.98, _caption(panel), transform=axis.transAxes, va="top", fontsize=7)
        axis.margins(y=0.2)
        axis.set_xlabel("relative fairness-gap, mean over layers, test")
    first = next(iter(axes.values()))
    first.set_ylabel(f"accuracy lost under {settings.attack.upper()},\nε = {settings.eps:g}, test (points)")
    looks = {name(method): {"color": settings.colours[method], "marker": "o"} for method in settings.methods}
    scopes = set(frame["scope"])
    looks |= {s: {"color": "0.4", "marker": marker} for s, marker in settings.markers.items() if s in scopes}
    handles = [plt.Line2D([], [], ls="", label=label, **look) for label, look in looks.items()]
    figure.legend(handles=handles, loc="outside right center")
    figure.set_figwidth(figure.get_figwidth() + 1.6)
    return figure


def _caption(panel: pd.DataFrame) -> str:
    row, absent = panel.iloc[0], int(panel[["fairness_gap", "robustness_drop"]].isna().any(axis=1).sum())
    return _correlation(row) + (f"\n{absent} runs without a value" if absent else "")


def _correlation(row: pd.Series) -> str:
    if pd.isna(row["coefficient"]):
        return f"no correlation defined (n = {row['n']:.0f} cells)"
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
    rests_on = f"n = {row['n']:.0f} cells, {row['seeds']:.0f} seed" + "s" * bool(row["seeds"] > 1)
    return f"Spearman {row['coefficient']:+.2f}{interval},\np = {row['p']:.2g}, {rests_on}"
