"""What a study says of the paper's conjectures, and which of its numbers failed a gate, as a page."""

from typing import Any

import pandas as pd

from unlearn.io.columns import CELL_KEY


def page(conjectures: pd.DataFrame, gates: pd.DataFrame, failures: pd.DataFrame, settings: dict[str, Any]) -> str:
    """Markdown: a row per conjecture with its evidence, per gate that failed or could not run, and per run
    that failed."""
    return (
        "## Conjectures\n\n"
        + _table(pd.DataFrame([_verdict(row, settings) for _, row in conjectures.iterrows()]))
        + "\nThe rule of each verdict is stated in docs/architecture.md, Statistics.\n\n## Gates\n\n"
        + _gates(gates, settings)
        + "\n## Failed runs\n\n"
        + (_table(failures.assign(arch=failures["arch"].map(settings["labels"]))) if len(failures) else "None.\n")
    )


def _verdict(row: pd.Series, settings: dict[str, Any]) -> dict[str, str]:
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3g}, {row['high']:.3g}]"
    value = "" if pd.isna(row["coefficient"]) else f"{row['coefficient']:.3g}{interval}"
    return {
        "conjecture": row["conjecture"],
        "model": settings["labels"][row["arch"]],
        "x": row["x"],
        "y": row["y"],
        "statistic": row["statistic"],
        "value": value,
        "p": "" if pd.isna(row["p"]) else f"{row['p']:.2g}",
        "n": f"{row['n']} ({row['seeds']} seeds)",
        "verdict": row["verdict"],
        "reason": row["reason"],
    }


def _gates(gates: pd.DataFrame, settings: dict[str, Any]) -> str:
    ran = gates[gates["passed"].notna()]
    failed = ran[~ran["passed"].astype(bool)]
    text = f"{len(ran) - len(failed)} of {len(ran)} checks passed.\n"
    if len(failed):
        lines = [
            {
                "gate": gate,
                "attack": attack,
                "against": "" if pd.isna(against) else against,
                "runs": ", ".join(
                    f"{settings['labels'][arch]} {forget} {method}-{scope}" + (f" ({len(of)})" if len(of) > 1 else "")
                    for (arch, forget, method, scope), of in rows.groupby(list(CELL_KEY), sort=False)
                ),
                "worst": f"{rows['value'].max():.3g} > {rows['limit'].iloc[0]:.3g}",
            }
            for (gate, attack, against), rows in failed.groupby(["gate", "attack", "against"], sort=False, dropna=False)
        ]
        text += "\n" + _table(pd.DataFrame(lines))
    idle = gates[gates["passed"].isna()].drop_duplicates(["gate", "attack"])
    if len(idle):
        names = ", ".join(f"{gate} of {attack}" for gate, attack in idle[["gate", "attack"]].itertuples(index=False))
        text += f"\nNothing in the study to compare with, or not measured: {names}.\n"
    return text


def _table(frame: pd.DataFrame) -> str:
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
