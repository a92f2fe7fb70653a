"""Robust accuracy against the radius of the attack on test images: methods on the widest scope, and the controls."""

from collections.abc import Mapping

import pandas as pd

from unlearn.api.figures import (
    CONTROLS,
    Figure,
    ReportSettings,
    cells,
    errors,
    groups,
    legend,
    name,
    on_widest_scope,
    plt,
    scopes_shown,
    seeds,
)

NEEDS = ("comparisons", "layers")
MEASURED = ("robust_accuracy",)
NORMS = {"linf": "L∞", "l2": "L₂"}


def data(tables: Mapping[str, pd.DataFrame], settings: ReportSettings) -> pd.DataFrame:
    """Robust accuracy per attack and eps; eps 0 is clean accuracy on the same images."""
    frame = tables["comparisons"]
    frame = frame[(frame["metric"] == "robust_accuracy") & (frame["role"] == "test")]
    columns = ["arch", "forget", "method", "scope", "attack", "eps", "mean", "low", "high", "n", "failed_gates"]
    frame = on_widest_scope(frame, tables["layers"], settings)
    return cells(frame[columns].astype({"attack": str}), settings)


def draw(frame: pd.DataFrame, settings: ReportSettings) -> Figure:
    """A row per attack, a column per architecture and forget set, a line per method."""
    attacks = [attack for attack in settings.attacks if attack in set(frame["attack"])]
    norms = [settings.threat_norms[attack] for attack in attacks]
    columns = groups(frame)
    figure, axes = plt.subplots(
        len(attacks),
        len(columns),
        figsize=(3.8 * len(columns), 2.5 * len(attacks) + 0.6),
        squeeze=False,
        sharex=len(set(norms)) == 1,
        sharey=True,
        layout="constrained",
    )
    for row, attack in enumerate(attacks):
        axes[row][0].set_ylabel("robust accuracy, test (%)")
        for axis, (arch, forget) in zip(axes[row], columns, strict=True):
            panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget) & (frame["attack"] == attack)]
            for method in settings.methods:
                line, control = panel[panel["method"] == method].sort_values("eps"), method in CONTROLS
                bars = errors(line)
                axis.errorbar(
                    line["eps"],
                    line["mean"] * 100,
                    None if bars is None else [bar * 100 for bar in bars],
                    color=settings.colours[method],
                    lw=2 if control else 1,
                    marker=".",
                    capsize=2,
                    label=name(method),
                    zorder=3 if control else 2,
                )
            gates = sorted(set(", ".join(panel["failed_gates"]).split(", ")) - {""})
            title = f"{attack.upper()}, {settings.label(arch, forget)}"
            axis.set_title(title + (f"\ngates failed: {', '.join(gates)}" if gates else ""))
            axis.axvline(settings.headline_eps[attack], color="0.8", lw=0.8, zorder=1)
            axis.set_ylim(0, 100)
            axis.locator_params(axis="x", nbins=5)
            if norms[row] != norms[min(row + 1, len(norms) - 1)] or row == len(norms) - 1:
                axis.set_xlabel(f"{NORMS[norms[row]]} radius ε (pixels in [0, 1])")
    legend(figure, axes[0][0], f"{scopes_shown(frame, settings)} ({seeds(frame)})")
    return figure
