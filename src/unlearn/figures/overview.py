"""Forgetting and utility: how far UA, RA, TA and MIA-efficacy of each cell are from retraining."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from unlearn.api.figures import cells, name, plt, seeds

NEEDS = ("comparisons",)
MEASURED = ("accuracy",)
METRICS = {"ua": "UA", "ra": "RA", "ta": "TA", "mia_efficacy": "MIA-eff.", "average_gap": "avg. gap"}
LIMIT = 30  # percentage points at which the colour saturates


def data(tables: dict[str, pd.DataFrame], settings: dict[str, Any]) -> pd.DataFrame:
    """Mean over seeds, and the gap to retrain, of each metric."""
    frame = tables["comparisons"]
    frame = frame[frame["metric"].isin(METRICS)]
    return cells(frame[["arch", "forget", "method", "scope", "metric", "mean", "low", "high", "gap", "n"]], settings)


def draw(frame: pd.DataFrame, settings: dict[str, Any]) -> Figure:
    """Numbers are means in percent; colours are the gap to retrain."""
    metrics = [metric for metric in METRICS if metric in set(frame["metric"])]
    groups = list(dict.fromkeys(zip(frame["arch"], frame["forget"], strict=True)))
    rows = list(dict.fromkeys(zip(frame["method"], frame["scope"], strict=True)))
    figure, axes = plt.subplots(
        1,
        len(groups),
        figsize=(3.3 * len(groups) + 1.2, 0.2 * len(rows) + 1.2),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for axis, (arch, forget) in zip(axes[0], groups, strict=True):
        panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget)]
        table = panel.set_index(["method", "scope", "metric"])
        mean, gap = (
            np.array([[table.loc[(m, s, k), c] * 100 for k in metrics] for m, s in rows]) for c in ("mean", "gap")
        )
        image = axis.imshow(gap, cmap="RdBu_r", vmin=-LIMIT, vmax=LIMIT, aspect="auto")
        for y, x in np.ndindex(mean.shape):
            colour = "white" if abs(gap[y, x]) > 0.7 * LIMIT else "black"
            axis.text(x, y, f"{mean[y, x]:.1f}", ha="center", va="center", fontsize=6.5, color=colour)
        axis.set_xticks(range(len(metrics)), [METRICS[metric] for metric in metrics])
        axis.set_yticks(
            range(len(rows)), [name(m) if m in ("original", "retrain") else f"{name(m)}, {s}" for m, s in rows]
        )
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
        axis.set_title(settings["labels"][arch] + (f", forget {forget}" if len(settings["forgets"]) > 1 else ""))
    figure.colorbar(image, ax=axes, label="gap to retrain (percentage points)", extend="both", fraction=0.05)
    figure.supxlabel(f"mean of {seeds(frame)}, %", fontsize=8)
    return figure
