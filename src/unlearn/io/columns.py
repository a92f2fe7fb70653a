"""Columns of tables, and those that several tables share: the run's identity, and the keys of a metric."""

import pyarrow as pa


def columns(text: str) -> list[tuple[str, pa.DataType]]:
    """Columns by the names that pyarrow has for their types.

    >>> columns("layer role: string, depth: int64")
    [('layer', DataType(string)), ('role', DataType(string)), ('depth', DataType(int64))]
    """
    groups = (group.split(":") for group in text.split(","))
    return [(name, pa.type_for_alias(kind.strip())) for names, kind in groups for name in names.split()]


def _names(chosen: list[tuple[str, pa.DataType]]) -> tuple[str, ...]:
    return tuple(name for name, _ in chosen)


CELL = columns("arch forget method scope: string")
RUN = [*CELL, *columns("seed: int64")]
CELL_KEY, RUN_KEY = _names(CELL), _names(RUN)
# Shadow models have their own splits and seeds.
SHADOWED = columns("arch method scope: string")
SHADOWED_KEY = _names(SHADOWED)
# The keys of a metric; null where they do not apply.
DETAIL = columns("role attack: string, eps: float64, class: int64, layer: string")
DETAIL_KEY = _names(DETAIL)
LOGITS = pa.list_(pa.float32())
