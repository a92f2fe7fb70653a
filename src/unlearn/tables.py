"""Every table of the project: its columns, its key, and the only way to write and read it.

Long, one value a row. pyarrow alone silently accepts missing, extra, null and mistyped columns and
repeated keys; the writer here refuses all five. A file is written beside its place and renamed, so
what lies at a path is whole.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unlearn import failures

META = b"unlearn"
COMPRESSION = "zstd"


class TableError(ValueError):
    """A table that does not hold what its declaration says; the message names file and column."""


@dataclass(frozen=True)
class Table:
    """``key`` columns identify a row (null counts as a value); ``nullable`` may be null; only a
    table that may be ``empty`` can be without rows."""

    schema: pa.Schema
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()
    empty: bool = False


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


def _table(columns: list, key: Sequence[str], nullable: Iterable[str] = (), empty: bool = False) -> Table:
    return Table(pa.schema(columns), tuple(key), frozenset(nullable), empty)


TABLES: dict[str, Table] = {
    "dataset": _table(
        [("id", pa.int64()), ("split", pa.string()), ("label", pa.int64()), ("image", pa.binary())], ["id"]
    ),
    "split": _table([("id", pa.int64()), ("role", pa.string())], ["id"]),
    "history": _table(
        [*RUN, ("epoch", pa.int64()), ("loss", pa.float64()), ("lr", pa.float64()), ("seconds", pa.float64())],
        [*RUN_KEY, "epoch"],
        empty=True,  # a method need not have epochs
    ),
    "tuning": _table(
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
    ),
    "cost": _table(
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
    ),
    "predictions": _table(
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
    ),
    "shadow": _table(
        [*SHADOWED, ("shadow", pa.int64()), ("id", pa.int64()), ("status", pa.string()), ("score", pa.float64())],
        [*SHADOWED_KEY, "shadow", "id"],
    ),
    "ulira": _table(
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
    ),
    "adversarial": _table(
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
    ),
    "grid": _table([("norm", pa.string()), ("eps", pa.float64()), ("headline", pa.bool_())], ["norm", "eps"]),
    "gates": _table(
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
    ),
    "failures": _table([*RUN, ("reason", pa.string())], RUN_KEY, empty=True),
    "activations": _table(
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
    ),
    "metrics": _table(
        [*RUN, ("metric", pa.string()), *DETAIL, ("value", pa.float64()), ("n", pa.int64())],
        [*RUN_KEY, "metric", *DETAIL_KEY],
        DETAIL_KEY,
    ),
    "comparisons": _table(
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
    ),
    "correlations": _table(
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
    ),
    "trajectory": _table(
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
    ),
    "conjectures": _table(
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
    ),
}


class Writer:
    """Append record batches to a table file of one kind; the file appears when all went well.

    Raises TableError for missing, extra or mistyped columns, nulls, NaN or infinite numbers,
    repeated keys, and a table without rows.
    """

    def __init__(self, name: str, path: str | Path, metadata: Mapping[str, Any], run: Run | None = None):
        self.name, self.table, self.path, self.run = name, TABLES[name], Path(path), run
        self.schema = self.table.schema.with_metadata({META: json.dumps({"table": name, **metadata}, sort_keys=True)})
        self.keys: list[pa.Table] = []
        self.part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def __enter__(self) -> "Writer":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.parquet = pq.ParquetWriter(self.part, self.schema, compression=COMPRESSION)
        return self

    def write(self, columns: Mapping[str, Any]) -> None:
        """``columns``: name → array-like of one length; the run identity is added if one was given."""
        columns = dict(columns)
        if self.run is not None:
            length = len(next(iter(columns.values())))
            columns = {k: np.repeat(getattr(self.run, k), length) for k in RUN_KEY} | columns
        batch = self._checked(columns)
        self.keys.append(batch.select(list(self.table.key)))
        self.parquet.write_table(batch)

    def _checked(self, columns: Mapping[str, Any]) -> pa.Table:
        schema = self.table.schema
        if extra := [c for c in columns if c not in schema.names]:
            raise TableError(f"{self.path}: table '{self.name}' has no column {', '.join(extra)}")
        if missing := [c for c in schema.names if c not in columns]:
            raise TableError(f"{self.path}: table '{self.name}' lacks column {', '.join(missing)}")
        arrays = [self._array(field, columns[field.name]) for field in schema]
        try:
            return pa.Table.from_arrays(arrays, schema=self.schema)
        except pa.ArrowInvalid as error:
            raise TableError(f"{self.path}: table '{self.name}': {error}") from None

    def _array(self, field: pa.Field, values: Any) -> pa.Array:
        where = f"{self.path}: table '{self.name}', column {field.name}"
        try:
            array = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise TableError(f"{where}: {error}") from None
        if not _compatible(array.type, field.type):
            raise TableError(f"{where}: holds {array.type}, must be {field.type}")
        try:
            array = array.cast(field.type)
        except pa.ArrowInvalid as error:
            raise TableError(f"{where}: {error}") from None
        if array.null_count and field.name not in self.table.nullable:
            raise TableError(f"{where}: {array.null_count} null values (or NaN)")
        numbers = array
        if pa.types.is_list(array.type):
            numbers = array.flatten()
            if len(pc.unique(pc.list_value_length(array))) > 1:
                raise TableError(f"{where}: lists of different lengths")
        if pa.types.is_floating(numbers.type) and pc.any(pc.invert(pc.is_finite(numbers.drop_null()))).as_py():
            raise TableError(f"{where}: NaN or infinite values")
        return array

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.parquet.close()
        try:
            if kind is None:
                keys = pa.concat_tables(self.keys) if self.keys else []
                if len(keys):
                    _check_unique(keys, self.table.key, f"{self.path}: table '{self.name}'")
                elif not self.table.empty:
                    raise TableError(f"{self.path}: table '{self.name}' would be empty")
                os.replace(self.part, self.path)
        finally:
            self.part.unlink(missing_ok=True)


def _compatible(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether the cast keeps the meaning: integers widen, integers become floats, nothing else."""
    types = pa.types
    if given == wanted or types.is_null(given):
        return True
    if types.is_integer(wanted):
        return types.is_integer(given)
    if types.is_floating(wanted):
        return types.is_floating(given) or types.is_integer(given)
    if types.is_string(wanted):
        return types.is_large_string(given) or (types.is_dictionary(given) and types.is_string(given.value_type))
    if types.is_list(wanted):
        return types.is_fixed_size_list(given) or types.is_list(given) or types.is_large_list(given)
    return types.is_binary(wanted) and types.is_large_binary(given)


def _check_unique(keys: pa.Table, columns: Sequence[str], where: str) -> None:
    # Most key columns of a run's table are constant; leaving them out makes this ten times faster.
    varying = [c for c in columns if len(pc.unique(keys[c])) > 1] or [columns[0]]
    distinct = len(keys.select(varying).group_by(varying).aggregate([]))
    if distinct != len(keys):
        raise TableError(f"{where}: {len(keys) - distinct} rows repeat a key ({', '.join(columns)})")


def write(
    name: str, path: str | Path, columns: Mapping[str, Any], metadata: Mapping[str, Any], run: Run | None = None
) -> None:
    """Write a whole table at once; see ``Writer``. ``columns`` may be a pandas DataFrame."""
    with Writer(name, path, metadata, run) as writer:
        writer.write({column: columns[column] for column in columns})


def rows(matrix: np.ndarray) -> pa.Array:
    """A float32 matrix [N, C] as a list column of N rows; ``matrix`` reads it back."""
    return pa.ListArray.from_arrays(np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32), matrix.ravel())


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A list column of equal lengths as a float32 matrix [N, C]."""
    values = column.combine_chunks()
    return values.flatten().to_numpy().reshape(len(values), -1)


def read(name: str, path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table and check that the file is one. Raises TableError naming the file, and RunFailed for
    the table of a run that failed."""
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path}: not a readable Parquet file ({error})") from None
    failures.check(json.loads((file.schema_arrow.metadata or {}).get(META, b"{}")))
    if not file.schema_arrow.equals(TABLES[name].schema, check_metadata=False):
        raise TableError(f"{path}: columns are not those of table '{name}'")
    try:
        return file.read(columns=list(columns) if columns else None)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path}: damaged ({error})") from None


def metadata(path: str | Path) -> dict[str, Any]:
    """What the writer recorded about the file: settings, provenance, and what the stage added."""
    try:
        raw = (pq.read_schema(path).metadata or {}).get(META)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path}: not a readable Parquet file ({error})") from None
    if raw is None:
        raise TableError(f"{path}: carries no metadata of this project")
    return json.loads(raw)
