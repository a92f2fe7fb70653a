from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

GATES = Table(
    "gates",
    [*RUN, *columns("gate attack against: string, value limit: float64, passed: bool, n: int64")],
    [*RUN_KEY, "gate", "attack", "against"],
    ["against", "value", "passed", "n"],  # null where the study has nothing to compare the attack with
    whole="analysed",
)
