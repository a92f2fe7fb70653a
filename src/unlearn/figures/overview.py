"""Forgetting and utility: UA, RA, TA and MIA-efficacy of each cell, and their gaps to exact retraining."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from unlearn.api.figures import ALL, CONTROLS, Figure, ReportSettings, cells, groups, name, plt, seeds

NEEDS = ("comparisons",)
MEASURED = ("accuracy",)
METRICS = {"ua": "UA", "ra": "RA", "ta": "TA", "mia_efficacy": "MIA-eff.", "average_gap": "avg. gap"}
LIMIT = 30  # percentage points at which the colour saturates


def data(tables: Mapping[str, pd.DataFrame], settings: ReportSettings) -> pd.DataFrame:
    """Mean over seeds, and the gap to retrain, of each metric."""
    frame = tables["comparisons"]
    frame = frame[frame["metric"].isin(METRICS)]
    return cells(frame[["arch", "forget", "method", "scope", "metric", "mean", "low", "high", "gap", "n"]], settings)


def draw(frame: pd.DataFrame, settings: ReportSettings) -> Figure:
    """A panel per architecture and forget set, a row per cell. Numbers are means in percent, a dash stands for a cell
    without a result; colours are the gap to retrain."""
    metrics = [metric for metric in METRICS if metric in set(frame["metric"])]
    columns, rows = groups(frame), list(dict.fromkeys(zip(frame["method"], frame["scope"], strict=True)))
    labels = [name(m) if m in CONTROLS and s == ALL else f"{name(m)}, {s}" for m, s in rows]
    figure, axes = plt.subplots(
        1,
        len(columns),
        figsize=(3.3 * len(columns) + 0.07 * max(map(len, labels)) + 0.8, 0.2 * len(rows) + 1.2),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for axis, (arch, forget) in zip(axes[0], columns, strict=True):
        panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget)]
        wide = panel.pivot(index=["method", "scope"], columns="metric", values=["mean", "gap"]).reindex(rows) * 100
        mean, gap = (wide[part][metrics].to_numpy() for part in ("mean", "gap"))
        image = axis.imshow(gap, cmap="RdBu_r", vmin=-LIMIT, vmax=LIMIT, aspect="auto")
        for y, x in np.ndindex(mean.shape):
            colour = "white" if abs(gap[y, x]) > 0.7 * LIMIT else "black"
            text = "—" if np.isnan(mean[y, x]) else f"{mean[y, x]:.1f}"
            axis.text(x, y, text, ha="center", va="center", fontsize=6.5, color=colour)
        axis.set_xticks(range(len(metrics)), [METRICS[metric] for metric in metrics])
        axis.set_yticks(range(len(rows)), labels)
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
        axis.set_title(settings.label(arch, forget))
    figure.colorbar(image, ax=axes, label="gap to retrain (percentage points)", extend="both", fraction=0.05)
    figure.supxlabel(f"mean of {seeds(frame)}, %", fontsize=8)
    return figure
