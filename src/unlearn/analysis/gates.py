"""Gates: checks that a number must pass before it is believed.

"copies" is about every number of a run: no retained image may be a copy of a forgotten one, since a model cannot forget
what it still learns. If a run fails it, all its comparisons are flagged, and all verdicts on its architecture.

The others are about robustness. Each checks what holds for any correct evaluation (Carlini et al. 2019,
arXiv:1902.06705, §5; Croce & Hein 2020, arXiv:2003.01690): a larger radius never helps the model, and a large enough
one leaves nothing robust; an attack of many steps is no weaker than one of a single step; one that follows gradients is
no weaker than one that does not; attacks on different losses are not far apart; perturbations are within their bounds;
outputs are logits. If a run fails a gate for an attack, every comparison of its cell by that attack is flagged, and
every verdict that rests on it says so. Where the study has nothing to compare with, the gate's row holds a null.
Gates of exact retraining itself are in ``unlearn.analysis.independence``.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from unlearn.io.columns import CELL_KEY, RUN_KEY
from unlearn.run import REFERENCE

# How far two attacks may be apart by chance, beside one image; honest models differ by 0.2 to 1.3 points.
TOLERANCE = 0.01
# Cross-entropy alone against the cascade, which also follows differences of logits. On honest models (ResNet and ViT on
# digits, 150 images) PGD of 10, 20, 50 or 100 steps leaves 4 to 6 points more, so the loss makes the difference, not
# the number of steps. Gradients that are masked by large logits leave 46 more.
LOSS_TOLERANCE = 0.1
NEAR_ZERO = 0.02
BOUND = 1 + 1e-3

INDEPENDENCE, EFFECT = "independence", "effect"  # of exact retraining: unlearn.analysis.independence
COLUMNS = [*RUN_KEY, "gate", "attack", "against", "value", "limit", "passed", "n"]
MANY_STEPS = ("iterative", "ensemble")
GRADIENT = ("single", *MANY_STEPS)
NO_GRADIENT = ("black box", "noise")


@dataclass(frozen=True)
class Attack:
    """What the gates need to know of an attack; see the constants of a file in ``attacks/``."""

    threat_norm: str
    category: str
    aim: str


def gates(metrics: pd.DataFrame, attacks: Mapping[str, Attack]) -> pd.DataFrame:
    """Rows of the gates table, from metrics on test images.

    The gates "iterative", "white_box" and "losses" compare robust accuracy on the same images at every radius; their
    value is the largest difference.
    """
    rows = []
    on_test = metrics[metrics["role"].isna() | (metrics["role"] == "test")]
    for run, measured in on_test.groupby(list(RUN_KEY), sort=False):
        robust = measured[measured["metric"] == "robust_accuracy"]
        curves = {attack: curve.set_index("eps").sort_index() for attack, curve in robust.groupby("attack")}
        values = measured.set_index(["metric", measured["attack"].fillna("")])["value"].to_dict()
        for name, attack in attacks.items():
            rows += [(*run, *row) for row in _of_perturbations(name, values)]
            if attack.aim == "fool":
                rows += [(*run, *row) for row in _of_curve(name, curves, attacks)]
    return typed(pd.DataFrame(rows, columns=COLUMNS))


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with nulls of the types of its columns."""
    texts = dict.fromkeys(("attack", "against"), "string")
    return table.astype({**texts, "passed": "boolean", "value": "Float64", "n": "Int64"})


def copies(metrics: pd.DataFrame, composition: pd.DataFrame) -> pd.DataFrame:
    """Rows of the gates table: for each run how many retained images are copies of forgotten ones, which none may be;
    ``n`` is the number of forgotten images."""
    runs = metrics[list(RUN_KEY)].drop_duplicates()
    of = composition[(composition["by"] == "copies of") & (composition["value"] == "forget")]
    total = composition[composition["by"] == "all"].set_index("forget")["forgotten"]
    value = runs["forget"].map(of.set_index("forget")["retained"])
    found = runs.assign(gate="copies", attack=None, against=None, value=value, limit=0.0, passed=value == 0)
    return typed(found.assign(n=runs["forget"].map(total)))


def failed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a gates table that say that a run failed."""
    return table[table["passed"].eq(False).fillna(False)]


def flagging(table: pd.DataFrame) -> pd.DataFrame:
    """Those of them that put comparisons in doubt: a small effect is a finding, and puts none."""
    rows = failed(table)
    return rows[rows["gate"] != EFFECT]


def flag_comparisons(comparisons: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The comparisons with ``failed_gates``: those that a run of the cell, or of exact retraining, fails for the row's
    attack ("losses, white_box") or for all of a run ("copies", "independence"); empty where none does."""
    rows = flagging(table)
    whole = rows[rows["attack"].isna()].groupby(list(CELL_KEY))["gate"].agg(set)
    of_cell = rows.groupby([*CELL_KEY, "attack"])["gate"].agg(set)
    reference = rows[(rows["method"] == REFERENCE[0]) & (rows["scope"] == REFERENCE[1])]
    of_reference = reference.groupby(["arch", "forget", "attack"])["gate"].agg(set)
    of_whole = reference[reference["attack"].isna()].groupby(["arch", "forget"])["gate"].agg(set)
    names = []
    for *cell, attack in comparisons[[*CELL_KEY, "attack"]].astype(object).itertuples(index=False, name=None):
        gates = of_cell.get((*cell, attack), set()) | of_reference.get((*cell[:2], attack), set())
        gates = gates | whole.get(tuple(cell), set()) | of_whole.get(tuple(cell[:2]), set())
        names.append(", ".join(sorted(gates)))
    return comparisons.assign(failed_gates=names)


def flag_conjectures(conjectures: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The conjectures, with the gates that runs of the architecture fail for the row's attack, or for all of a run,
    named in the reason."""
    rows = flagging(table)
    by_attack = rows.groupby(["arch", "attack"])["gate"].agg(set)
    whole = rows[rows["attack"].isna()].groupby("arch")["gate"].agg(set)
    reasons = []
    for row in conjectures.itertuples():
        gates = set() if pd.isna(row.attack) else by_attack.get((row.arch, row.attack), set())
        gates = gates | whole.get(row.arch, set())
        flag = [f"gates failed: {', '.join(sorted(gates))}"] if gates else []
        reasons.append("; ".join([row.reason] * bool(row.reason) + flag))
    return conjectures.assign(reason=reasons)


def _of_perturbations(attack: str, values: Mapping[tuple[str, str], float]) -> Iterator[tuple]:
    for gate, metric, limit in (
        ("norm", "perturbation", BOUND),
        ("range", "out_of_range", 0.0),
        ("finite", "not_finite", 0.0),
    ):
        yield _row(gate, attack, None, values.get((metric, attack)), limit, 1)
    yield _row("logits", attack, None, values.get(("normalized_outputs", "")), 0.5, 1)


def _of_curve(name: str, curves: Mapping[str, pd.DataFrame], attacks: Mapping[str, Attack]) -> Iterator[tuple]:
    attack, curve = attacks[name], curves.get(name)
    n = None if curve is None else int(curve["n"].iloc[0])

    def against(gate: str, categories: tuple[str, ...], tolerance: float) -> Iterator[tuple]:
        limit = tolerance + (1 / n if n else 0)
        others = [
            other
            for other, described in attacks.items()
            if described.category in categories
            and (described.threat_norm, described.aim) == (attack.threat_norm, "fool")
            and other != name
            and other in curves
        ]
        for other in others if n else []:
            yield _row(gate, name, other, float((curve["value"] - curves[other]["value"]).max()), limit, n)
        if not others or not n:
            yield _row(gate, name, None, None, limit, None)

    rises = [b - a for a, b in itertools.pairwise(curve["value"].dropna())] if n else []
    yield _row("monotone", name, None, max(rises, default=None), 0.0, n)
    if attack.category in MANY_STEPS:
        yield _row("ends_at_zero", name, None, curve["value"].iloc[-1] if n else None, NEAR_ZERO, n)
        yield from against("iterative", ("single",), TOLERANCE)
    if attack.category in GRADIENT:
        yield from against("white_box", NO_GRADIENT, TOLERANCE)
    if attack.category == "iterative":
        yield from against("losses", ("ensemble",), LOSS_TOLERANCE)


def _row(gate: str, attack: str, against: str | None, value: float | None, limit: float, n: int | None) -> tuple:
    value = None if pd.isna(value) else value
    passed = None if value is None else bool(value <= limit + 1e-9)
    return gate, attack, against, value, limit, passed, n
