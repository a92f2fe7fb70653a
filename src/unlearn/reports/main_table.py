"""The main table: one row per cell, the study's headline numbers with their intervals."""

import pandas as pd

from unlearn.api.figures import ReportSettings, cells, name
from unlearn.io.columns import CELL_KEY
from unlearn.reports import markup

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
    ("trainable_parameters", "Trainable (k)", 1e-3, 1),
)
FLAGGED = "†"  # a gate failed
INCOMPLETE = "‡"  # some seeds failed, or have no value
ABSENT = "—"  # all did
CELL = list(CELL_KEY)


def main_table(comparisons: pd.DataFrame, failures: pd.DataFrame, settings: ReportSettings) -> pd.DataFrame:
    """Long rows (cell, heading, mean, low, high, n, undefined, failed_gates, failed_seeds) in printed order, scaled.

    ``undefined`` counts the seeds for which the value is not defined. A cell all of whose runs failed has rows without
    numbers.
    """
    frame = comparisons[comparisons["role"].isna() | (comparisons["role"] == "test")]
    frame = frame[frame["attack"].isna() | (frame["attack"] == settings.attack)]
    frame = frame[frame["eps"].isna() | (frame["eps"] == settings.eps)]
    parts = []
    for metric, heading, factor, _ in COLUMNS:
        rows = frame[frame["metric"] == metric]
        scaled = {column: rows[column] * factor for column in ("mean", "low", "high")}
        parts.append(rows[[*CELL, "n", "undefined", "failed_gates"]].assign(heading=heading, **scaled))
    frame = pd.concat(parts, ignore_index=True)
    headings = frame["heading"].unique()
    failed = failures.groupby(CELL, as_index=False).agg(failed_seeds=("seed", "size"))
    absent = failed.merge(frame[CELL].drop_duplicates(), how="left", indicator=True).query("_merge == 'left_only'")
    absent = absent[CELL].merge(
        pd.DataFrame({"heading": headings, "n": 0, "undefined": 0, "failed_gates": ""}), how="cross"
    )
    frame = pd.concat([frame, absent], ignore_index=True) if len(absent) else frame
    frame = frame.merge(failed, how="left", on=CELL).fillna({"failed_seeds": 0}).astype({"failed_seeds": int})
    columns = [*CELL, "heading", "mean", "low", "high", "n", "undefined", "failed_gates", "failed_seeds"]
    return cells(frame[columns], settings)


def to_markdown(frame: pd.DataFrame, settings: ReportSettings) -> str:
    """The page of a main table."""
    return f"{markup.markdown(_printed(frame, settings), 3)}\n{markup.escape(_caption(frame, settings))}\n"


def to_latex(frame: pd.DataFrame, settings: ReportSettings) -> str:
    """A tabular environment, with the caption as a comment."""
    return f"% {_caption(frame, settings)}\n{markup.latex(_printed(frame, settings), 3)}"


def _printed(frame: pd.DataFrame, settings: ReportSettings) -> pd.DataFrame:
    """A row per cell, in texts: model, method, scope, and a column per heading."""
    cells = frame[CELL].drop_duplicates()
    texts = frame.assign(text=frame.apply(_number, axis=1)).pivot(index=CELL, columns="heading", values="text")
    texts = texts.loc[pd.MultiIndex.from_frame(cells), frame["heading"].unique()]
    names = {
        "Model": [settings.label(arch, forget, " / ") for arch, forget in cells[["arch", "forget"]].to_numpy()],
        "Method": [name(method) for method in cells["method"]],
        "Scope": list(cells["scope"]),
    }
    return pd.DataFrame(names).join(texts.reset_index(drop=True))


def _number(row: pd.Series) -> str:
    places = next(decimals for _, heading, _, decimals in COLUMNS if heading == row["heading"])
    if row["n"] == 0:
        return ABSENT
    half = "" if pd.isna(row["low"]) else f" ± {(row['high'] - row['low']) / 2:.{places}f}"
    signs = FLAGGED * bool(row["failed_gates"]) + INCOMPLETE * bool(row["failed_seeds"] + row["undefined"])
    return f"{row['mean']:.{places}f}{half}{signs}"


def _caption(frame: pd.DataFrame, settings: ReportSettings) -> str:
    counts = frame.loc[frame["n"] > 0, "n"]
    fewest, most = (counts.min(), counts.max()) if len(counts) else (0, 0)
    gates = sorted({gate for names in frame["failed_gates"] for gate in names.split(", ") if gate})
    sentences = [
        f"UA to Avg. gap, Disparity, Worst class, RobA and AURC in %; RobA and AURC on test images under "
        f"{settings.attack.upper()}, RobA at eps = {settings.eps:g}; gaps, Time and Memory are relative to exact "
        f"retraining; mean over {fewest if fewest == most else f'{fewest} to {most}'} seed(s)"
        + (", ± half the confidence interval." if fewest > 1 else "."),
    ]
    if gates:
        sentences.append(f"{FLAGGED} failed a gate: {', '.join(gates)}.")
    if frame[["failed_seeds", "undefined"]].any(axis=None):
        sentences.append(
            f"{INCOMPLETE} without the seeds that failed or have no value, {ABSENT} all did: see the verdicts."
        )
    return " ".join([*sentences, *settings.notes])
