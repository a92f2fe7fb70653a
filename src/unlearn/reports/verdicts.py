"""The page of verdicts: on claims, gates and runs that failed, values that are not defined, and what was forgotten."""

from collections.abc import Mapping

import pandas as pd

from unlearn.analysis.gates import EFFECT
from unlearn.analysis.independence import EFFECTS
from unlearn.api.figures import ReportSettings
from unlearn.io.columns import CELL_KEY
from unlearn.reports.markup import escape, markdown

LINES = 10  # of each forget set, at most


def page(
    conjectures: pd.DataFrame,
    gates: pd.DataFrame,
    failures: pd.DataFrame,
    comparisons: pd.DataFrame,
    composition: pd.DataFrame,
    settings: ReportSettings,
) -> str:
    """Markdown: a row per claim with its evidence, per gate that failed or could not run, per failed run, and per
    metric and reason for which values are not defined; and what the forget sets are made of."""
    sections = {
        **({"Models": ["".join(f"- {escape(note)}\n" for note in settings.notes)]} if settings.notes else {}),
        "Claims": [
            _table(pd.DataFrame([_verdict(row, settings.labels) for _, row in conjectures.iterrows()])),
            "The rule of each verdict is stated in docs/statistics.md.\n",
        ],
        "Forgetting": _forgetting(gates[gates["gate"] == EFFECT], settings),
        "Gates": _gates(gates[gates["gate"] != EFFECT], settings.labels),
        "Failed runs": [
            _table(failures.assign(arch=failures["arch"].map(settings.labels))) if len(failures) else "None.\n"
        ],
        "Values that are not defined": [_undefined(comparisons, settings.labels)],
        "Forget sets": _forget_sets(composition),
    }
    return "\n".join(part for title, parts in sections.items() for part in (f"## {title}\n", *parts))


def _verdict(row: pd.Series, labels: Mapping[str, str]) -> dict[str, str]:
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3g}, {row['high']:.3g}]"
    return {
        "claim": row["conjecture"],
        "whose": row["source"],
        "model": labels[row["arch"]],
        "x": row["x"],
        "y": row["y"],
        "statistic": row["statistic"],
        "value": "" if pd.isna(row["coefficient"]) else f"{row['coefficient']:.3g}{interval}",
        "p": "" if pd.isna(row["p"]) else f"{row['p']:.2g}",
        "n": f"{row['n']} ({row['seeds']} seeds)",
        "verdict": row["verdict"],
        "reason": row["reason"],
    }


def _forgetting(effects: pd.DataFrame, settings: ReportSettings) -> list[str]:
    """A line per architecture and forget set: whether retraining changes more than retraining once more would."""
    lines = []
    for (arch, forget), rows in effects.groupby(["arch", "forget"], sort=False):
        of_metric = rows.drop_duplicates("against").set_index("against")
        of_metric.index = of_metric.index.map(EFFECTS)
        texts = [
            f"{metric} by {100 * row['limit']:.2f} points, noise {100 * row['value']:.2f}"
            for metric, row in of_metric.dropna(subset="passed").iterrows()
        ]
        small = of_metric.index[of_metric["passed"].eq(False).fillna(False)]
        said = f"{settings.labels[arch]}, {forget}: exact retraining changes {'; '.join(texts)}."
        if len(small) == len(of_metric):
            said += " Retraining changes less than the noise: this study cannot measure forgetting."
        elif len(small):
            said += f" Forgetting cannot be measured by {', '.join(small)}, which changes less than the noise."
        lines.append(f"- {escape(said)}\n")
    return ["".join(lines) if lines else "Not measured.\n"]


def _gates(gates: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Paragraphs: how many checks passed, those that failed, and those that had nothing to check."""
    ran = gates[gates["passed"].notna()]
    failed = ran[~ran["passed"].astype(bool)]
    parts = [f"{len(ran) - len(failed)} of {len(ran)} checks passed.\n"]
    if len(failed):
        by_gate = failed.groupby(["gate", "attack", "against"], sort=False, dropna=False)
        rows = [
            {
                "gate": gate,
                "attack": "" if pd.isna(attack) else attack,
                "against": "" if pd.isna(against) else against,
                "runs": _cells(of_gate, labels) if pd.notna(attack) else _whole(of_gate),
                "worst": f"{of_gate['value'].max():.3g} > {of_gate['limit'].iloc[0]:.3g}",
            }
            for (gate, attack, against), of_gate in by_gate
        ]
        parts.append(_table(pd.DataFrame(rows)))
    idle = gates.loc[gates["passed"].isna(), ["gate", "attack"]].drop_duplicates()
    if len(idle):
        names = ", ".join(gate if pd.isna(attack) else f"{gate} of {attack}" for gate, attack in idle.to_numpy())
        parts.append(f"Nothing in the study to compare with, or not measured: {escape(names)}.\n")
    return parts


def _forget_sets(composition: pd.DataFrame) -> list[str]:
    """A table of all forget sets: each in all, its copies, and of each class and attribute the values that it forgets
    most of."""
    rows = []
    for forget, made in composition.groupby("forget", sort=False):
        whole, equal = made[made["by"] == "all"], made[made["by"] == "copies of"]
        equal = equal[equal[["forgotten", "retained", "test"]].sum(axis=1) > 0]
        values = made[~made["by"].isin(["all", "copies of"]) & (made["forgotten"] > 0)]
        values = values.sort_values("forgotten", ascending=False, kind="stable")
        room = LINES - 1 - len(whole) - len(equal)
        most = values.groupby("by", sort=False).head(room // max(values["by"].nunique(), 1)).head(room)
        shown = pd.concat([whole, equal, most.sort_values("by", kind="stable")])
        rows += [_composed(row) for _, row in shown.iterrows()]
        if hidden := len(values) - len(most):
            rows.append(dict.fromkeys(rows[-1], "") | {"forget set": forget, "images": f"{hidden} more values"})
    note = "Copies are equal pixel by pixel. composition.parquet has all counts.\n"
    return [_table(pd.DataFrame(rows)), note]


def _composed(row: pd.Series) -> dict[str, str]:
    value = "without one" if pd.isna(row["value"]) else row["value"]
    return {
        "forget set": row["forget"],
        "images": "all" if row["by"] == "all" else f"{row['by']} {value}",
        "forgotten": f"{row['forgotten']:,}",
        "retained": f"{row['retained']:,}",
        "test": f"{row['test']:,}",
        "of the forget set": f"{100 * row['share_of_forgotten']:.3g} %",
        "of the training images": f"{100 * row['share_of_training']:.3g} %",
    }


def _whole(failed: pd.DataFrame) -> str:
    """The forget sets of the runs, all of which fail."""
    return f"all that forget {', '.join(dict.fromkeys(failed['forget']))}"


def _cells(rows: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """The cells that have rows, with the number of these where there are several."""
    cells = rows.groupby(list(CELL_KEY), sort=False).size()
    return ", ".join(
        f"{labels[arch]} {forget} {method}-{scope}" + f" ({count})" * (count > 1)
        for (arch, forget, method, scope), count in cells.items()
    )


def _undefined(comparisons: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """Of how many of the runs in which cells a metric, under some keys, has no value."""
    missing = comparisons[comparisons["undefined"] > 0]
    rows = [
        {"metric": metric, "cells": _cells(rows, labels), "values": rows["undefined"].sum(), "reason": reason}
        for (metric, reason), rows in missing.groupby(["metric", "reason"], sort=False)
    ]
    return _table(pd.DataFrame(rows)) if rows else "None.\n"


def _table(frame: pd.DataFrame) -> str:
    return markdown(frame, texts=len(frame.columns))
