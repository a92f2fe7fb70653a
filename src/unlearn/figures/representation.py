"""How far each method on each scope is from retraining on forget images: its layers by CKA, its outputs by JS."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from unlearn.api.figures import ALL, CONTROLS, Figure, ReportSettings, cells, groups, name, plt, seeds

NEEDS = ("comparisons", "metrics")
MEASURED = ("cka", "divergence")
OUTPUTS = "outputs"
KEY = ["arch", "forget", "method", "scope"]


def data(tables: Mapping[str, pd.DataFrame], settings: ReportSettings) -> pd.DataFrame:
    """Distance from retraining, mean and interval over seeds: 1 - CKA of each layer in order of ``depth``, and last of
    the ``outputs`` the Jensen-Shannon divergence as a share of its maximum ln 2."""
    frame = tables["comparisons"].query("role == 'forget' and metric in ('cka_retrain', 'js_divergence')")
    frame = frame[[*KEY, "metric", "layer", "mean", "low", "high", "n"]].astype({"layer": object})
    outputs = frame["metric"] == "js_divergence"
    order = tables["metrics"].query("metric == 'cka_retrain'").drop_duplicates(["arch", "layer"])
    depth = order.groupby("arch").cumcount().set_axis(pd.MultiIndex.from_frame(order[["arch", "layer"]]))
    last = depth.groupby("arch").max() + 1
    frame["depth"] = [
        last[arch] if said else depth[arch, layer]
        for arch, layer, said in zip(frame["arch"], frame["layer"], outputs, strict=True)
    ]
    frame["layer"] = frame["layer"].mask(outputs, OUTPUTS)
    scaled, similar = frame[["mean", "low", "high"]] / math.log(2), 1 - frame[["mean", "high", "low"]].to_numpy()
    frame[["mean", "low", "high"]] = np.where(outputs.to_numpy()[:, None], scaled, similar)
    return cells(frame, settings)


def draw(frame: pd.DataFrame, settings: ReportSettings) -> Figure:
    """A panel per architecture and forget set, a row per cell, a column per layer and one for the outputs. A dash
    stands for a cell without a result."""
    columns, rows = groups(frame), list(dict.fromkeys(zip(frame["method"], frame["scope"], strict=True)))
    layers = {pair: _layers(frame, *pair) for pair in columns}
    figure, axes = plt.subplots(
        1,
        len(columns),
        figsize=(max(6.75, 1.6 + 0.36 * sum(map(len, layers.values()))), 0.165 * len(rows) + 1.4),
        squeeze=False,
        sharey=True,
        width_ratios=[len(names) for names in layers.values()],
        layout="constrained",
    )
    for axis, (arch, forget) in zip(axes[0], columns, strict=True):
        names = layers[arch, forget]
        panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget)]
        wide = panel.pivot(index=["method", "scope"], columns="layer", values="mean")
        distance = wide.reindex(rows)[names].to_numpy(float)
        image = axis.imshow(distance, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for y, x in np.ndindex(distance.shape):
            text = "—" if np.isnan(distance[y, x]) else f"{distance[y, x]:.2f}"
            colour = "white" if distance[y, x] > 0.6 else "black"
            axis.text(x, y, text, ha="center", va="center", fontsize=5.5, color=colour)
        axis.axvline(len(names) - 1.5, color="black", lw=1.2)
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
        axis.set_yticks(
            range(len(rows)), [name(m) if m in CONTROLS and s == ALL else f"{name(m)}, {s}" for m, s in rows]
        )
        axis.tick_params(length=0, axis="y", labelsize=7)
        axis.tick_params(length=0, axis="x")
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
        axis.set_title(settings.label(arch, forget))
    bar = figure.colorbar(image, ax=axes, extend="max", fraction=0.04, pad=0.02)
    bar.set_label("distance from retrain", fontsize=7)
    measures = "layers: 1 - CKA, outputs: JS divergence / ln 2"
    figure.supxlabel(f"on forget images; {measures}; mean of {seeds(frame)}", fontsize=7)
    return figure


def _layers(frame: pd.DataFrame, arch: str, forget: str) -> list[str]:
    """The columns of a panel, in order of depth."""
    panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget)]
    return list(panel.drop_duplicates("layer").sort_values("depth")["layer"])
