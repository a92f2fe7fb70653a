"""The only way to declare, write and read a table.

pyarrow alone accepts missing, extra, null and mistyped columns and repeated keys without a word; the writer here
refuses all five. A file is written under another name and renamed at the end, so a file that exists is complete.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unlearn.io import failures, files
from unlearn.io.columns import RUN_KEY
from unlearn.io.metadata import record
from unlearn.run import Run

META = b"unlearn"
COMPRESSION = "zstd"
ROW_GROUP = 1 << 24  # fewest bytes in memory, but for the last one of a file


class TableError(ValueError):
    """A table that does not match its declaration; the message names file and column."""


@dataclass(frozen=True)
class Table:
    """The declaration of a table.

    ``key`` columns identify a row (null counts as a value), ``nullable`` columns may hold nulls, and only a table that
    may be ``empty`` can be without rows. ``whole`` says how the table of the whole study is made, if there is one:
    "collected" from the runs, "analysed" from other tables, or "built" before any run is attacked. A table
    that allows ``further`` columns may have some of text after its own, which its writer names (``with_texts``).
    """

    name: str
    columns: Sequence[tuple[str, pa.DataType]]
    key: Sequence[str]
    nullable: Sequence[str] = ()
    empty: bool = False
    whole: Literal["", "collected", "analysed", "built"] = ""
    further: bool = False

    @cached_property
    def schema(self) -> pa.Schema:
        return pa.schema(self.columns)

    def with_texts(self, names: Sequence[str]) -> "Table":
        """The table with further columns of text after its own, which may hold nulls. Raises TableError for a table
        that allows none, and for a name that is taken."""
        if not names:
            return self
        taken = [name for name in names if [*self.schema.names, *names].count(name) > 1]
        if taken or not self.further:
            raise TableError(f"table '{self.name}' cannot have a further column {(taken or names)[0]}")
        columns = [*self.columns, *((name, pa.string()) for name in names)]
        return replace(self, columns=columns, nullable=[*self.nullable, *names])


def named(name: str) -> Table:
    """The declaration of a table, for a stage that gets its name. A fingerprint does not see what is loaded here, so
    the rule names the table's module among the roots of its code."""
    return getattr(import_module(f"unlearn.io.schema.{name}"), name.upper())


class Writer:
    """Writes a table in batches; the file appears at the end of the context, if there was no error.

    ``more`` is metadata (``settings`` and whatever the stage adds); where the file comes from is added to it. If a
    ``run`` is given, its identity is added to every row.

    Raises TableError for missing, extra or mistyped columns, nulls, NaN or infinite numbers, repeated keys, and a table
    without rows.
    """

    def __init__(self, table: Table, path: str | Path, more: Mapping[str, Any], run: Run | None = None):
        self.table, self.path, self.run = table, Path(path), run
        described = record(**({"run": vars(run)} if run else {}), **more)
        self.schema = table.schema.with_metadata({META: json.dumps({"table": table.name, **described}, sort_keys=True)})
        self.keys: list[pa.Table] = []
        self.runs: set[str] = set()
        self.waiting: list[pa.Table] = []
        self.waiting_bytes = 0

    def __enter__(self) -> "Writer":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            part = held.enter_context(files.replacing(self.path))
            self.parquet = held.enter_context(pq.ParquetWriter(part, self.schema, compression=COMPRESSION))
            self.held = held.pop_all()
        return self

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append a batch: name → array-like, all of one length, or the text or number of all rows."""
        columns = {**(vars(self.run) if self.run else {}), **columns}
        length = next((len(values) for values in columns.values() if not np.isscalar(values)), 1)
        batch = self._checked({k: np.repeat(v, length) if np.isscalar(v) else v for k, v in columns.items()})
        self.keys.append(batch.select(list(self.table.key)))
        self._add(batch)

    def append(self, part: pa.Table) -> None:
        """Append the whole table of one run (or model, or cell), as ``read`` returns it. Its rows are known to differ
        from each other, so only the runs of all parts are compared, and no keys are kept."""
        columns = [name for name in self.table.key if name in RUN_KEY]
        runs = part.select(columns).group_by(columns).aggregate([]).to_pylist()
        for run in runs:
            name = ", ".join(map(str, run.values()))
            if len(runs) > 1 or name in self.runs:
                raise TableError(f"{self.path}: table '{self.table.name}': {name} is not in one part alone")
            self.runs.add(name)
        self._add(part.replace_schema_metadata(self.schema.metadata))

    def _add(self, batch: pa.Table) -> None:
        self.waiting.append(batch)
        self.waiting_bytes += batch.nbytes
        if self.waiting_bytes >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        """Write the batches that wait as one row group: a group per run would take more memory than its rows."""
        if self.waiting:
            self.parquet.write_table(pa.concat_tables(self.waiting))
            self.waiting, self.waiting_bytes = [], 0

    def _checked(self, columns: Mapping[str, Any]) -> pa.Table:
        schema = self.table.schema
        if extra := [c for c in columns if c not in schema.names]:
            raise TableError(f"{self.path}: table '{self.table.name}' has no column {', '.join(extra)}")
        if missing := [c for c in schema.names if c not in columns]:
            raise TableError(f"{self.path}: table '{self.table.name}' lacks column {', '.join(missing)}")
        arrays = [self._array(field, columns[field.name]) for field in schema]
        try:
            return pa.Table.from_arrays(arrays, schema=self.schema)
        except pa.ArrowInvalid as error:
            raise TableError(f"{self.path}: table '{self.table.name}': {error}") from None

    def _array(self, field: pa.Field, values: Any) -> pa.Array:
        where = f"{self.path}: table '{self.table.name}', column {field.name}"
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
        if kind is not None:
            self.held.__exit__(kind, error, trace)
            return
        with self.held:
            keys = pa.concat_tables(self.keys) if self.keys else []
            if len(keys):
                _check_unique(keys, self.table.key, f"{self.path}: table '{self.table.name}'")
            elif not self.table.empty and not self.runs:
                raise TableError(f"{self.path}: table '{self.table.name}' would be empty")
            self._flush()


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
    # Most key columns of a run's table are constant; without them this is ten times faster.
    varying = [c for c in columns if len(pc.unique(keys[c])) > 1] or [columns[0]]
    distinct = len(keys.select(varying).group_by(varying).aggregate([]))
    if distinct != len(keys):
        raise TableError(f"{where}: {len(keys) - distinct} rows repeat a key ({', '.join(columns)})")


def write(
    table: Table, path: str | Path, columns: Mapping[str, Any], metadata: Mapping[str, Any], run: Run | None = None
) -> None:
    """Write a table in one batch; see ``Writer``. ``columns`` may be a pandas DataFrame."""
    with Writer(table, path, metadata, run) as writer:
        writer.write({column: columns[column] for column in columns})


def rows(matrix: np.ndarray) -> pa.Array:
    """A matrix [N, C] of floats as a list column of N rows; ``matrix`` reads it back."""
    return pa.ListArray.from_arrays(np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32), matrix.ravel())


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A list column of equal lengths as a matrix [N, C] of its type."""
    values = column.combine_chunks()
    return values.flatten().to_numpy().reshape(len(values), -1)


def read(table: Table, path: str | Path, columns: Sequence[str] | None = None, without: Sequence[str] = ()) -> pa.Table:
    """Read a table, or some ``columns`` of it, or all ``without`` some.

    Raises TableError naming the file if it is not such a table, and RunFailed for the table of a run that failed.
    """
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path}: not a readable Parquet file ({error})") from None
    failures.check(json.loads((file.schema_arrow.metadata or {}).get(META, b"{}")))
    expected = table.with_texts(file.schema_arrow.names[len(table.columns) :]) if table.further else table
    if not file.schema_arrow.equals(expected.schema, check_metadata=False):
        raise TableError(f"{path}: columns are not those of table '{table.name}'")
    try:
        return file.read(columns=list(columns or [name for name in expected.schema.names if name not in without]))
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path}: damaged, or no memory to read it ({error})") from None


def metadata(path: str | Path) -> dict[str, Any]:
    """What the writer recorded: settings, where the file comes from, and what the stage added. Raises TableError for a
    file without it."""
    try:
        raw = (pq.read_schema(path).metadata or {}).get(META)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path}: not a readable Parquet file ({error})") from None
    if raw is None:
        raise TableError(f"{path}: carries no metadata of this project")
    return json.loads(raw)
