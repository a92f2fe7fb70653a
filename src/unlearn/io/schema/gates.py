from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

GATES = Table(
    "gates",
    [*RUN, *columns("gate attack against: string, value limit: float64, passed: bool, n: int64")],
    [*RUN_KEY, "gate", "attack", "against"],
    # attack: null where a gate is about all of a run; the others: where the study has nothing to compare an attack with
    ["attack", "against", "value", "passed", "n"],
    whole="analysed",
)
