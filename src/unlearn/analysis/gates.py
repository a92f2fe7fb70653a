"""Gates: checks that a robustness number must pass before it is believed.

Each compares what any correct evaluation must satisfy (Carlini et al. 2019, arXiv:1902.06705, §5;
Croce & Hein 2020, arXiv:2003.01690): more room never helps the model and enough room ends it; an attack of
many steps is no weaker than one of a single step; one that follows gradients is no weaker than
one that does not; different losses agree; perturbations are within bounds; outputs are logits. A gate that
fails marks every comparison of that run and attack, and every verdict that rests on them. Where a study has
nothing to compare with, the row says so with a null.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from unlearn.io.columns import CELL_KEY, RUN_KEY

# Points that two attacks may differ by chance and by an image; measured on honest models: 0.2 to 1.3.
TOLERANCE = 0.01
LOSSES = 0.05  # cross-entropy against the difference of logits: 1 to 4 on honest models, 46 on masked ones
NEAR_ZERO = 0.02
BOUND = 1 + 1e-3

COLUMNS = [*RUN_KEY, "gate", "attack", "against", "value", "limit", "passed", "n"]
GRADIENT = ("single", "iterative", "ensemble")


def gates(metrics: pd.DataFrame, attacks: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Rows of the gates table. ``attacks``: name → its ``threat_norm``, ``category`` and ``aim``; role test.

    "iterative", "white_box" and "losses" compare robust accuracy on the same images at every radius
    and give the largest difference.
    """
    found = []
    of_test = metrics[metrics["role"].isna() | (metrics["role"] == "test")]
    for run, rows in of_test.groupby(list(RUN_KEY), sort=False):
        robust = rows[rows["metric"] == "robust_accuracy"]
        curves = {attack: curve.set_index("eps").sort_index() for attack, curve in robust.groupby("attack")}
        single = rows.set_index(["metric", rows["attack"].fillna("")])["value"].to_dict()
        for attack, described in attacks.items():
            found += [(*run, *row) for row in _checks(attack, single)]
            if described["aim"] == "fool":
                found += [(*run, *row) for row in _curve(attack, curves, attacks, single)]
    frame = pd.DataFrame(found, columns=COLUMNS)
    return frame.astype({"against": "string", "passed": "boolean", "value": "Float64", "n": "Int64"})


def flag(comparisons: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The comparisons with ``failed``: the gates that any of a cell's runs, or of exact retraining's, fails
    for the row's attack ("losses, white_box"); empty where none does or no attack is involved."""
    bad = table[table["passed"].eq(False).fillna(False)]
    of_cell = bad.groupby([*CELL_KEY, "attack"])["gate"].agg(set)
    of_reference = bad[(bad["method"] == "retrain") & (bad["scope"] == "all")]
    of_reference = of_reference.groupby(["arch", "forget", "attack"])["gate"].agg(set)
    keys = comparisons[[*CELL_KEY, "attack"]].astype(object).itertuples(index=False, name=None)
    found = []
    for arch, forget, method, scope, attack in keys:
        names = of_cell.get((arch, forget, method, scope, attack), set())
        found.append(", ".join(sorted(names | of_reference.get((arch, forget, attack), set()))))
    return comparisons.assign(failed=found)


def doubt(conjectures: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The conjectures with the gates that runs of the architecture fail for the row's attack added to the reason."""
    bad = table[table["passed"].eq(False).fillna(False)]
    reasons = []
    for row in conjectures.itertuples():
        of_row = bad[(bad["arch"] == row.arch) & (bad["attack"] == row.attack)] if pd.notna(row.attack) else bad[:0]
        names = sorted(set(of_row["gate"]))
        reasons.append("; ".join([row.reason] * bool(row.reason) + [f"gates failed: {', '.join(names)}"] * bool(names)))
    return conjectures.assign(reason=reasons)


def _checks(attack: str, single: Mapping[tuple[str, str], float]) -> Iterator[tuple]:
    for gate, metric, limit in (
        ("norm", "perturbation", BOUND),
        ("range", "out_of_range", 0.0),
        ("finite", "not_finite", 0.0),
    ):
        yield _row(gate, attack, None, single.get((metric, attack)), limit, 1)
    yield _row("logits", attack, None, single.get(("normalized_outputs", "")), 0.5, 1)


def _curve(
    attack: str, curves: Mapping[str, pd.DataFrame], attacks: Mapping[str, Any], single: Mapping[Any, float]
) -> Iterator[tuple]:
    norm, kind = attacks[attack]["threat_norm"], attacks[attack]["category"]
    if attack not in curves:
        gates = [
            "monotone",
            *["ends_at_zero", "iterative"] * (kind in GRADIENT[1:]),
            *["white_box"] * (kind in GRADIENT),
        ]
        yield from (_row(gate, attack, None, None, 0.0, None) for gate in [*gates, *["losses"] * (kind == "iterative")])
        return
    curve = curves[attack]
    n = int(curve["n"].iloc[0])
    rises = [b - a for a, b in itertools.pairwise(curve["value"])]
    yield _row("monotone", attack, None, max(rises), 0.0, n)
    if kind in ("iterative", "ensemble"):
        yield _row("ends_at_zero", attack, None, curve["value"].iloc[-1], NEAR_ZERO, n)

    def against(gate: str, kinds: tuple[str, ...], limit: float) -> Iterator[tuple]:
        others = [
            a for a, d in attacks.items() if d["category"] in kinds and d["threat_norm"] == norm and d["aim"] == "fool"
        ]
        others = [a for a in others if a != attack and a in curves]
        for other in others:
            excess = float((curve["value"] - curves[other]["value"]).max())
            yield _row(gate, attack, other, excess, limit + 1 / n, n)
        if not others:
            yield _row(gate, attack, None, None, limit + 1 / n, None)

    if kind in ("iterative", "ensemble"):
        yield from against("iterative", ("single",), TOLERANCE)
    if kind in GRADIENT:
        yield from against("white_box", ("black box", "noise"), TOLERANCE)
    if kind == "iterative":
        yield from against("losses", ("ensemble",), LOSSES)


def _row(gate: str, attack: str, against: str | None, value: float | None, limit: float, n: int | None) -> tuple:
    return gate, attack, against, value, limit, None if value is None else bool(value <= limit + 1e-9), n
