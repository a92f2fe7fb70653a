from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

RELEARNING = Table(
    "relearning",
    # The accuracy after ``step`` steps, on the ``n`` forget images that were not relearned.
    [*RUN, *columns("step: int64, accuracy: float64, n: int64")],
    [*RUN_KEY, "step"],
    empty=True,  # no class has an image to relearn and another one to test
)
