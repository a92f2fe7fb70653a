import pyarrow as pa

from unlearn.io.columns import RUN, RUN_KEY
from unlearn.io.tables import Table

FAILURES = Table(
    "failures", [*RUN, ("reason", pa.string())], RUN_KEY, empty=True, whole="collected"
)  # runs without a result
