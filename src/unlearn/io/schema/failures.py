from unlearn.io.columns import RUN, RUN_KEY, columns
from unlearn.io.tables import Table

FAILURES = Table(
    "failures", [*RUN, *columns("reason: string")], RUN_KEY, empty=True, whole="collected"
)  # runs without a result
