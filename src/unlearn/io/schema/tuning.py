from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

TUNING = Table(
    "tuning",
    [*RUN, *columns("parameter: string, value ua ra ta mia_efficacy distance: float64, failure: string, chosen: bool")],
    [*RUN_KEY, "parameter", "value"],
    ["ua", "ra", "ta", "mia_efficacy", "distance", "failure"],  # null where training diverged, and where not
    whole="collected",
)
