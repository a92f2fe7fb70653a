"""The page of verdicts: on the paper's conjectures, on gates and runs that failed, on values that are not defined."""

from collections.abc import Mapping

import pandas as pd

from unlearn.api.figures import ReportSettings
from unlearn.io.columns import CELL_KEY
from unlearn.reports.markup import escape, markdown


def page(
    conjectures: pd.DataFrame,
    gates: pd.DataFrame,
    failures: pd.DataFrame,
    comparisons: pd.DataFrame,
    settings: ReportSettings,
) -> str:
    """Markdown: a row per conjecture with its evidence, per gate that failed or could not run, per failed run, and per
    metric and reason for which values are not defined."""
    sections = {
        "Claims": [
            _table(pd.DataFrame([_verdict(row, settings.labels) for _, row in conjectures.iterrows()])),
            "The rule of each verdict is stated in docs/statistics.md.\n",
        ],
        "Gates": _gates(gates, settings.labels),
        "Failed runs": [
            _table(failures.assign(arch=failures["arch"].map(settings.labels))) if len(failures) else "None.\n"
        ],
        "Values that are not defined": [_undefined(comparisons, settings.labels)],
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
                "attack": attack,
                "against": "" if pd.isna(against) else against,
                "runs": _cells(of_gate, labels),
                "worst": f"{of_gate['value'].max():.3g} > {of_gate['limit'].iloc[0]:.3g}",
            }
            for (gate, attack, against), of_gate in by_gate
        ]
        parts.append(_table(pd.DataFrame(rows)))
    idle = gates.loc[gates["passed"].isna(), ["gate", "attack"]].drop_duplicates()
    if len(idle):
        names = ", ".join(f"{gate} of {attack}" for gate, attack in idle.to_numpy())
        parts.append(f"Nothing in the study to compare with, or not measured: {escape(names)}.\n")
    return parts


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
