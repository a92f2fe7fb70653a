"""The main table: one row per cell, the study's headline numbers with their intervals."""

from typing import Any

import pandas as pd

from unlearn.api.figures import cells, name

# Metric, heading, factor, decimals. Robustness is under the study's last attack, at its headline radius.
COLUMNS = (
    ("ua", "UA", 100, 2),
    ("ra", "RA", 100, 2),
    ("ta", "TA", 100, 2),
    ("mia_efficacy", "MIA-eff.", 100, 2),
    ("average_gap", "Avg. gap", 100, 2),
    ("fairness_gap_mean", "Fairness-gap", 1, 3),
    ("relative_fairness_gap_mean", "Rel. f.-gap", 1, 3),
    ("class_disparity", "Disparity", 100, 2),
    ("worst_class_accuracy", "Worst class", 100, 2),
    ("robust_accuracy", "RobA", 100, 2),
    ("robust_accuracy_gap", "RobA gap", 100, 2),
    ("aurc_gap", "AURC gap", 100, 2),
    ("relative_seconds", "Time", 1, 3),
    ("relative_memory", "Memory", 1, 3),
    ("trainable_parameters", "Moved (k)", 1e-3, 1),
)
DOUBT = "†"
LOSS = "‡"
HOLE = "—"
INDEX = ["arch", "forget", "method", "scope"]


def main_table(comparisons: pd.DataFrame, failures: pd.DataFrame, settings: dict[str, Any]) -> pd.DataFrame:
    """Long rows (cell, heading, mean, low, high, n, failed gates, lost seeds) in the order they are printed,
    scaled. A cell all of whose runs failed has rows without numbers."""
    attack = settings["attacks"][-1]
    frame = comparisons[comparisons["role"].isna() | (comparisons["role"] == "test")]
    frame = frame[frame["attack"].isna() | (frame["attack"] == attack)]
    frame = frame[frame["eps"].isna() | (frame["eps"] == settings["headline_eps"][attack])]
    parts = []
    for metric, heading, factor, _ in COLUMNS:
        found = frame[frame["metric"] == metric]
        scaled = {column: found[column] * factor for column in ("mean", "low", "high")}
        parts.append(found[[*INDEX, "n", "failed"]].assign(heading=heading, **scaled))
    frame = pd.concat(parts, ignore_index=True)
    order = {heading: i for i, heading in enumerate(dict.fromkeys(frame["heading"]))}
    frame = frame.sort_values("heading", key=lambda h: h.map(order), kind="stable")
    lost = failures.groupby(INDEX, as_index=False).agg(lost=("seed", "size"))
    holes = lost.merge(frame[INDEX].drop_duplicates(), how="left", indicator=True).query("_merge == 'left_only'")
    holes = holes[INDEX].merge(pd.DataFrame({"heading": list(order), "n": 0, "failed": ""}), how="cross")
    frame = pd.concat([frame, holes], ignore_index=True) if len(holes) else frame
    frame = frame.merge(lost, how="left", on=INDEX).fillna({"lost": 0}).astype({"lost": int})
    return cells(frame[[*INDEX, "heading", "mean", "low", "high", "n", "failed", "lost"]], settings)


def to_markdown(frame: pd.DataFrame, settings: dict[str, Any]) -> str:
    head, rows = _wide(frame, settings, "{:.{}f} ± {:.{}f}")
    lines = [head, ["---"] * 3 + ["---:"] * (len(head) - 3), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{_caption(frame, settings)}\n"


def to_latex(frame: pd.DataFrame, settings: dict[str, Any]) -> str:
    head, rows = _wide(frame, settings, "{:.{}f} $\\pm$ {:.{}f}")
    escape = str.maketrans(
        {"_": r"\_", "%": r"\%", "&": r"\&", DOUBT: r"$^\dagger$", LOSS: r"$^\ddagger$", HOLE: "---"}
    )
    body = " \\\\\n".join(" & ".join(cell.translate(escape) for cell in row) for row in [head, *rows])
    head_end = body.index("\n")
    return (
        f"% {_caption(frame, settings)}\n\\begin{{tabular}}{{lll{'r' * (len(head) - 3)}}}\n\\toprule\n"
        f"{body[:head_end]}\n\\midrule{body[head_end:]} \\\\\n\\bottomrule\n\\end{{tabular}}\n"
    )


def _wide(frame: pd.DataFrame, settings: dict[str, Any], template: str) -> tuple[list[str], list[list[str]]]:
    decimals = {heading: places for _, heading, _, places in COLUMNS}
    headings = list(dict.fromkeys(frame["heading"]))
    rows = []
    for (arch, forget, method, scope), cell in frame.groupby(INDEX, sort=False):
        found = cell.set_index("heading")
        texts = []
        for heading in headings:
            row, places = found.loc[heading], decimals[heading]
            half = (row["high"] - row["low"]) / 2
            text = f"{row['mean']:.{places}f}" if pd.isna(half) else template.format(row["mean"], places, half, places)
            texts.append(HOLE if row["n"] == 0 else text + DOUBT * bool(row["failed"]) + LOSS * bool(row["lost"]))
        label = settings["labels"][arch] + (f" / {forget}" if len(settings["forgets"]) > 1 else "")
        rows.append([label, name(method), scope, *texts])
    return ["Model", "Method", "Scope", *headings], rows


def _caption(frame: pd.DataFrame, settings: dict[str, Any]) -> str:
    counts = sorted(set(frame["n"]) - {0})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    attack = settings["attacks"][-1]
    doubt = sorted({gate for names in frame["failed"] for gate in names.split(", ") if gate})
    return (
        f"UA to Avg. gap, Disparity, Worst class, RobA and AURC in %; "
        f"RobA and AURC on test images under {attack.upper()}, RobA at eps = {settings['headline_eps'][attack]:g}; "
        f"gaps, Time and Memory are relative to exact retraining; mean over {seeds} seed(s)"
        + (", ± half the confidence interval." if counts[0] > 1 else ".")
        + (f" {DOUBT} failed a gate: {', '.join(doubt)}." if doubt else "")
        + (
            f" {LOSS} without the seeds that failed, {HOLE} all failed: see the verdicts."
            if frame["lost"].any()
            else ""
        )
    )
