"""Columns that several tables share: the run's identity, and the keys of a metric."""

import pyarrow as pa

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
# Shadow models have their own splits and seeds.
SHADOWED = [column for column in CELL if column[0] != "forget"]
SHADOWED_KEY = tuple(name for name, _ in SHADOWED)
# The keys of a metric; null where they do not apply.
DETAIL = [
    ("role", pa.string()),
    ("attack", pa.string()),
    ("eps", pa.float64()),
    ("class", pa.int64()),
    ("layer", pa.string()),
]
DETAIL_KEY = tuple(name for name, _ in DETAIL)
LOGITS = pa.list_(pa.float32())
