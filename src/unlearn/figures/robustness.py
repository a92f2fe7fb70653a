"""Robust accuracy against the radius of the attack, per method, on test images."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from unlearn.api.figures import cells, colours, errors, legend, name, plt, seeds

NEEDS = ("comparisons",)
MEASURED = ("robust_accuracy",)


def data(tables: dict[str, pd.DataFrame], settings: dict[str, Any]) -> pd.DataFrame:
    """Robust accuracy per attack and eps; eps 0 is clean accuracy on the same images."""
    frame = tables["comparisons"]
    robust = frame[(frame["metric"] == "robust_accuracy") & (frame["role"] == "test")]
    columns = ["arch", "forget", "method", "scope", "attack", "eps", "mean", "low", "high", "n", "failed"]
    found = cells(robust[columns], settings)
    found["attack"] = found["attack"].astype(str)
    return found


def draw(frame: pd.DataFrame, settings: dict[str, Any]) -> Figure:
    """A row per attack, a column per architecture and forget set; methods on their widest scope."""
    attacks = [attack for attack in settings["attacks"] if attack in set(frame["attack"])]
    groups = list(dict.fromkeys(zip(frame["arch"], frame["forget"], strict=True)))
    widest = "all" if "all" in settings["scopes"] else settings["scopes"][-1]
    palette = colours(settings)
    figure, axes = plt.subplots(
        len(attacks),
        len(groups),
        figsize=(3.8 * len(groups), 2.5 * len(attacks) + 0.6),
        squeeze=False,
        sharex=len(set(settings["threat_norms"].values())) == 1,
        sharey=True,
        layout="constrained",
    )
    for row, attack in enumerate(attacks):
        for column, (arch, forget) in enumerate(groups):
            axis = axes[row][column]
            panel = frame[(frame["arch"] == arch) & (frame["forget"] == forget) & (frame["attack"] == attack)]
            for method in settings["methods"]:
                control = method in ("original", "retrain")
                line = panel[
                    (panel["method"] == method) & (panel["scope"] == ("all" if control else widest))
                ].sort_values("eps")
                axis.errorbar(
                    line["eps"],
                    line["mean"] * 100,
                    None if errors(line) is None else [e * 100 for e in errors(line)],
                    color=palette[method],
                    lw=2 if control else 1,
                    marker=".",
                    capsize=2,
                    label=name(method),
                    zorder=3 if control else 2,
                )
            label = settings["labels"][arch] + (f", forget {forget}" if len(settings["forgets"]) > 1 else "")
            doubt = sorted(set(", ".join(panel["failed"]).split(", ")) - {""})
            axis.set_title(f"{attack.upper()}, {label}" + (f"\ngates failed: {', '.join(doubt)}" if doubt else ""))
            axis.axvline(settings["headline_eps"][attack], color="0.8", lw=0.8, zorder=1)
            axis.set_ylim(0, 100)
            if column == 0:
                axis.set_ylabel("robust accuracy, test (%)")
            if (
                row == len(attacks) - 1
                or settings["threat_norms"][attack] != settings["threat_norms"][attacks[row + 1]]
            ):
                norm = {"linf": r"$L_\infty$", "l2": "$L_2$"}[settings["threat_norms"][attack]]
                axis.set_xlabel(rf"{norm} radius $\epsilon$ (pixels in [0, 1])")
    legend(figure, axes[0][0], f"scope: {widest} ({seeds(frame)})")
    return figure
