"""The tables there are: of each its columns, their types, and the key that makes a row unique.

Long, one value a row. A stage names the declarations it needs, so that an edit of one remakes what it reads and
writes, and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa


@dataclass(frozen=True)
class Table:
    """``key`` columns identify a row (null counts as a value); ``nullable`` may be null; only a
    table that may be ``empty`` can be without rows."""

    name: str
    columns: Sequence[tuple[str, pa.DataType]]
    key: Sequence[str]
    nullable: Sequence[str] = ()
    empty: bool = False

    @cached_property
    def schema(self) -> pa.Schema:
        return pa.schema(self.columns)


@dataclass(frozen=True)
class Run:
    """The identity of a run. It stands in columns and is never parsed back out of a path."""

    arch: str
    forget: str
    method: str
    scope: str
    seed: int


RUN = [
    ("arch", pa.string()),
    ("forget", pa.string()),
    ("method", pa.string()),
    ("scope", pa.string()),
    ("seed", pa.int64()),
]
CELL = RUN[:-1]
RUN_KEY = tuple(name for name, _ in RUN)
CELL_KEY = tuple(name for name, _ in CELL)
# Shadow models have splits and seeds of their own.
SHADOWED = [column for column in CELL if column[0] != "forget"]
SHADOWED_KEY = tuple(name for name, _ in SHADOWED)
# The keys a metric may need; null where they do not apply.
DETAIL = [
    ("role", pa.string()),
    ("attack", pa.string()),
    ("eps", pa.float64()),
    ("class", pa.int64()),
    ("layer", pa.string()),
]
DETAIL_KEY = tuple(name for name, _ in DETAIL)
LOGITS = pa.list_(pa.float32())

DATASET = Table(
    "dataset", [("id", pa.int64()), ("split", pa.string()), ("label", pa.int64()), ("image", pa.binary())], ["id"]
)
SPLIT = Table("split", [("id", pa.int64()), ("role", pa.string())], ["id"])
HISTORY = Table(
    "history",
    [*RUN, ("epoch", pa.int64()), ("loss", pa.float64()), ("lr", pa.float64()), ("seconds", pa.float64())],
    [*RUN_KEY, "epoch"],
    empty=True,  # a method need not have epochs
)
TUNING = Table(
    "tuning",
    [
        *RUN,
        ("parameter", pa.string()),
        ("value", pa.float64()),
        ("ua", pa.float64()),
        ("ra", pa.float64()),
        ("ta", pa.float64()),
        ("mia_efficacy", pa.float64()),
        ("distance", pa.float64()),
        ("failure", pa.string()),
        ("chosen", pa.bool_()),
    ],
    [*RUN_KEY, "parameter", "value"],
    ["ua", "ra", "ta", "mia_efficacy", "distance", "failure"],  # null where training diverged, and where not
)
COST = Table(
    "cost",
    [
        *RUN,
        ("seconds", pa.float64()),
        ("cpu_seconds", pa.float64()),
        ("peak_memory", pa.int64()),
        ("trainable_parameters", pa.int64()),
        ("parameters", pa.int64()),
        ("device", pa.string()),
        ("precision", pa.string()),
    ],
    RUN_KEY,
)
PREDICTIONS = Table(
    "predictions",
    [
        *RUN,
        ("id", pa.int64()),
        ("role", pa.string()),
        ("label", pa.int64()),
        ("logits", LOGITS),
        ("margin", pa.float64()),
    ],
    [*RUN_KEY, "id"],
    ["margin"],  # null where the logits do not depend on the image
)
SHADOW = Table(
    "shadow",
    [*SHADOWED, ("shadow", pa.int64()), ("id", pa.int64()), ("status", pa.string()), ("score", pa.float64())],
    [*SHADOWED_KEY, "shadow", "id"],
)
ULIRA = Table(
    "ulira",
    [
        *SHADOWED,
        ("statistic", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("left_out", pa.int64()),
    ],
    [*SHADOWED_KEY, "statistic"],
    ["low", "high"],  # of quantiles, for which no jackknife holds
)
ADVERSARIAL = Table(
    "adversarial",
    [
        *RUN,
        ("attack", pa.string()),
        ("aim", pa.string()),
        ("norm", pa.string()),
        ("id", pa.int64()),
        ("role", pa.string()),
        ("label", pa.int64()),
        ("eps", pa.float64()),
        ("predicted", pa.int64()),
        ("distance", pa.float64()),
        ("by", pa.string()),
    ],
    [*RUN_KEY, "attack", "id"],
    ["eps", "distance", "by"],  # null where the attack never succeeded; no member succeeds at radius 0
)
GRID = Table("grid", [("norm", pa.string()), ("eps", pa.float64()), ("headline", pa.bool_())], ["norm", "eps"])
FAILURES = Table("failures", [*RUN, ("reason", pa.string())], RUN_KEY, empty=True)  # runs without a result
GATES = Table(
    "gates",
    [
        *RUN,
        ("gate", pa.string()),
        ("attack", pa.string()),
        ("against", pa.string()),
        ("value", pa.float64()),
        ("limit", pa.float64()),
        ("passed", pa.bool_()),
        ("n", pa.int64()),
    ],
    [*RUN_KEY, "gate", "attack", "against"],
    ["against", "value", "passed", "n"],  # null where the study has nothing to hold the attack against
)
ACTIVATIONS = Table(
    "activations",
    [
        *RUN,
        ("layer", pa.string()),
        ("depth", pa.int64()),
        ("role", pa.string()),
        ("class", pa.int64()),
        ("channel", pa.int64()),
        ("count", pa.int64()),
        ("mean", pa.float64()),
        ("sigma", pa.float64()),
    ],
    [*RUN_KEY, "layer", "role", "class", "channel"],
    ["channel"],  # null: the layer as a whole
)
METRICS = Table(
    "metrics",
    [*RUN, ("metric", pa.string()), *DETAIL, ("value", pa.float64()), ("n", pa.int64())],
    [*RUN_KEY, "metric", *DETAIL_KEY],
    DETAIL_KEY,
)
COMPARISONS = Table(
    "comparisons",
    [
        *CELL,
        ("metric", pa.string()),
        *DETAIL,
        ("mean", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("boot_low", pa.float64()),
        ("boot_high", pa.float64()),
        ("gap", pa.float64()),
        ("gap_low", pa.float64()),
        ("gap_high", pa.float64()),
        ("abs_gap", pa.float64()),
        ("spread", pa.float64()),
        ("p", pa.float64()),
        ("p_adjusted", pa.float64()),
        ("equivalent", pa.string()),
        ("seeds_needed", pa.int64()),
        ("n", pa.int64()),
        ("failed", pa.string()),
    ],
    [*CELL_KEY, "metric", *DETAIL_KEY],
    [
        *(*DETAIL_KEY, "low", "high", "boot_low", "boot_high", "gap_low", "gap_high", "spread"),
        *("p", "p_adjusted", "equivalent", "seeds_needed"),
    ],
)
CORRELATIONS = Table(
    "correlations",
    [
        ("arch", pa.string()),
        ("x", pa.string()),
        ("y", pa.string()),
        ("attack", pa.string()),
        ("eps", pa.float64()),
        ("role", pa.string()),
        ("statistic", pa.string()),
        ("coefficient", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p", pa.float64()),
        ("n", pa.int64()),
        ("seeds", pa.int64()),
    ],
    ["arch", "x", "y", "attack", "eps", "role", "statistic"],
    ["eps", "coefficient", "low", "high", "p"],
    empty=True,  # a study need not measure both sides
)
TRAJECTORY = Table(
    "trajectory",
    [
        ("arch", pa.string()),
        ("seed", pa.int64()),
        ("epoch", pa.int64()),
        ("accuracy", pa.float64()),
        ("layer", pa.string()),
        ("depth", pa.int64()),
        ("class", pa.int64()),
        ("sigma", pa.float64()),
    ],
    ["arch", "seed", "epoch", "layer", "class"],
)
CONJECTURES = Table(
    "conjectures",
    [
        ("conjecture", pa.string()),
        ("arch", pa.string()),
        ("attack", pa.string()),
        ("eps", pa.float64()),
        ("x", pa.string()),
        ("y", pa.string()),
        ("statistic", pa.string()),
        ("coefficient", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p", pa.float64()),
        ("n", pa.int64()),
        ("seeds", pa.int64()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
    ],
    ["conjecture", "arch", "x", "y", "statistic"],
    ["attack", "eps", "coefficient", "low", "high", "p"],
)

# For whoever has only a name.
TABLES = {
    table.name: table
    for table in (
        DATASET,
        SPLIT,
        HISTORY,
        TUNING,
        COST,
        PREDICTIONS,
        SHADOW,
        ULIRA,
        ADVERSARIAL,
        GRID,
        GATES,
        FAILURES,
        ACTIVATIONS,
        METRICS,
        COMPARISONS,
        CORRELATIONS,
        TRAJECTORY,
        CONJECTURES,
    )
}
