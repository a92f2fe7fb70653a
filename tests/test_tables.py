"""The strict writer refuses what pyarrow accepts, and a file at a path is whole or absent."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unlearn.io import tables
from unlearn.io.catalogue import TABLES
from unlearn.io.columns import RUN_KEY
from unlearn.io.schema.adversarial import ADVERSARIAL
from unlearn.io.schema.dataset import DATASET
from unlearn.io.schema.history import HISTORY
from unlearn.io.schema.metrics import METRICS
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.io.schema.split import SPLIT
from unlearn.io.tables import TableError
from unlearn.run import Run

ASSIGNED = {"id": [1, 2, 3], "role": ["retain", "forget", "test"]}
RUN = Run("resnet", "random10", "cf", "all", 0)
ATTACKED = {
    "attack": ["pgd"] * 2,
    "aim": ["fool"] * 2,
    "threat_norm": ["linf"] * 2,
    "eps": [0.1, 0.1],
    "id": [1, 2],
    "role": ["test"] * 2,
    "label": [0, 1],
    "predicted": [0, 0],
    "distance": [0.1, 0.05],
    "by": ["pgd"] * 2,
}
METRIC = {
    "metric": ["ta"],
    "role": [None],
    "attack": [None],
    "eps": [None],
    "class": [None],
    "layer": [None],
    "value": [0.5],
    "n": [10],
    "reason": [None],
}
PREDICTED = {"id": [1, 2], "role": ["test"] * 2, "label": [0, 1], "margin": [0.1, None]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.parquet"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": None}, "lacks column role"),
        ({"extra": [1, 2, 3]}, "no column extra"),
        ({"role": ["retain", None, "test"]}, "1 null"),
        ({"id": [1, None, 3]}, "1 null"),
        ({"id": [1.0, 2.0, 3.0]}, "holds double, must be int64"),
        ({"id": ["1", "2", "3"]}, "holds string, must be int64"),
        ({"id": [True, False, True]}, "holds bool"),
        ({"role": [1, 2, 3]}, "must be string"),
        ({"id": [1, "2", 3]}, "column id"),
        ({"id": [1, 2]}, "length"),
        ({"id": [1, 2, 1]}, "1 rows repeat a key"),
        ({"id": [], "role": []}, "would be empty"),
    ],
)
def test_writer_refuses(path, change, message):
    columns = {name: values for name, values in {**ASSIGNED, **change}.items() if values is not None}
    with pytest.raises(TableError, match=message) as caught:
        tables.write(SPLIT, path, columns, {})
    assert str(caught.value).startswith(f"{path}: table 'split'")
    assert not list(path.parent.iterdir()), "an error must leave nothing behind"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("wrap", [list, np.array, pa.array], ids=["list", "numpy", "arrow"])
def test_writer_refuses_numbers_that_are_none(path, bad, wrap):
    columns = {"epoch": [1, 2], "lr": [0.1, 0.1], "seconds": [1.0, 1.0], "loss": wrap([0.1, bad])}
    with pytest.raises(TableError, match=r"column loss: .*(NaN|infinite)"):
        tables.write(HISTORY, path, columns, {}, RUN)


def test_writer_refuses_nan_inside_logits(path):
    logits = tables.rows(np.array([[0.0, np.nan], [1.0, 2.0]], np.float32))
    with pytest.raises(TableError, match="logits"):
        tables.write(PREDICTIONS, path, {**PREDICTED, "logits": logits}, {}, RUN)


def test_a_text_or_number_stands_in_all_rows(path):
    tables.write(ADVERSARIAL, path, ATTACKED | {"attack": "pgd", "eps": 0.1, "label": 0}, {}, RUN)
    found = tables.read(ADVERSARIAL, path, ["attack", "eps", "label", "seed"]).to_pylist()
    assert found == [{"attack": "pgd", "eps": 0.1, "label": 0, "seed": 0}] * 2


def test_writer_refuses_rows_of_unequal_length(path):
    """Otherwise ``matrix`` would read 1 + 3 logits of two images as two and two."""
    with pytest.raises(TableError, match="logits"):
        tables.write(PREDICTIONS, path, {**PREDICTED, "logits": [[0.0], [1.0, 2.0, 3.0]]}, {}, RUN)


def test_writer_refuses_integers_that_do_not_fit(path):
    with pytest.raises(TableError, match="column id"):
        tables.write(SPLIT, path, {**ASSIGNED, "id": [1, 2, 2**70]}, {})


def write_batches(path, *batches):
    with tables.Writer(SPLIT, path, {}) as writer:
        for batch in batches:
            writer.write(batch)


def test_keys_are_compared_across_batches(path):
    with pytest.raises(TableError, match="3 rows repeat a key"):
        write_batches(path, ASSIGNED, ASSIGNED)
    assert not list(path.parent.iterdir())


def appended(path, *runs):
    """A table of parts, each of which holds the metrics of so many runs as it is given seeds."""
    parts = []
    for seeds in runs:
        part = path.with_name(f"part{len(parts)}.parquet")
        with tables.Writer(METRICS, part, {}) as writer:
            for seed in seeds:
                identity = {name: [value] for name, value in vars(replace(RUN, seed=seed)).items()}
                writer.write({**identity, **METRIC})
        parts.append(tables.read(METRICS, part))
    with tables.Writer(METRICS, path, {"mark": 1}) as writer:
        for part in parts:
            writer.append(part)
    return tables.read(METRICS, path)


def test_parts_stand_one_after_the_other(path):
    assert appended(path, [3], [0], [1])["seed"].to_pylist() == [3, 0, 1]
    assert tables.metadata(path)["mark"] == 1


@pytest.mark.parametrize(("limit", "groups"), [(1, 3), (tables.ROW_GROUP, 1)])
def test_a_row_group_holds_many_small_parts(path, monkeypatch, limit, groups):
    monkeypatch.setattr(tables, "ROW_GROUP", limit)
    assert len(appended(path, [0], [1], [2])) == 3
    assert pq.ParquetFile(path).num_row_groups == groups


@pytest.mark.parametrize("runs", [([0], [1], [0]), ([0, 1], [2]), ([2], [2, 1])])
def test_a_run_is_one_part(path, runs):
    with pytest.raises(TableError, match="is not in one part alone"):
        appended(path, *runs)
    assert not path.exists()


def test_null_is_a_value_in_a_key(path):
    twice = {name: values * 2 for name, values in METRIC.items()}
    with pytest.raises(TableError, match="1 rows repeat a key"):
        tables.write(METRICS, path, twice, {}, RUN)
    tables.write(METRICS, path, {**twice, "role": [None, "test"]}, {}, RUN)


def test_only_some_tables_may_be_empty(path):
    tables.write(HISTORY, path, {"epoch": [], "loss": [], "lr": [], "seconds": []}, {}, RUN)
    assert len(tables.read(HISTORY, path)) == 0


def test_failed_rewrite_keeps_the_old_file(path):
    tables.write(SPLIT, path, ASSIGNED, {"mark": 1})
    before = path.read_bytes()
    with pytest.raises(TableError):
        tables.write(SPLIT, path, {**ASSIGNED, "id": [1, 1, 1]}, {})
    with pytest.raises(ZeroDivisionError):
        write_batches(path, *(batch if batch else 1 / 0 for batch in (ASSIGNED, None)))
    assert [path] == list(path.parent.iterdir())
    assert path.read_bytes() == before


def test_file_appears_only_when_whole(path):
    with tables.Writer(SPLIT, path, {}) as writer:
        writer.write(ASSIGNED)
        assert not path.exists()
    assert path.exists()


def test_run_stands_in_columns(path):
    tables.write(ADVERSARIAL, path, ATTACKED, {}, RUN)
    found = tables.read(ADVERSARIAL, path).to_pydict()
    assert {key: found[key] for key in RUN_KEY} == {key: [getattr(RUN, key)] * 2 for key in RUN_KEY}


def test_metadata_comes_back(path):
    tables.write(SPLIT, path, ASSIGNED, {"settings": {"kind": "random"}})
    described = tables.metadata(path)
    assert {"table": "split", "settings": {"kind": "random"}}.items() <= described.items()
    assert {"version", "code", "inputs", "libraries"} <= described.keys(), "the writer adds where the file comes from"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(TableError, match=str(path)):
        tables.metadata(path)


def _missing(path):
    path.unlink()


def _foreign(path):
    pq.write_table(pa.table({"id": [1], "role": ["test"], "more": [1]}), path)


def _mistyped(path):
    pq.write_table(pa.table({"id": pa.array([1], pa.int32()), "role": ["test"]}), path)


def _text(path):
    path.write_text("id,role\n1,test\n")


def _empty(path):
    path.write_bytes(b"")


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-20])


def _damaged(path):
    raw = bytearray(path.read_bytes())
    raw[4:60] = bytes(56)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_missing, "no such file"),
        (_foreign, "columns are not those of table 'split'"),
        (_mistyped, "columns are not those of table 'split'"),
        (_text, "not a readable Parquet file"),
        (_empty, "not a readable Parquet file"),
        (_truncated, "not a readable Parquet file"),
        (_damaged, ""),
    ],
)
def test_read_refuses_and_names_the_file(path, harm, message):
    tables.write(SPLIT, path, ASSIGNED, {})
    harm(path)
    with pytest.raises(TableError, match=f"{path}: {message}"):
        tables.read(SPLIT, path)


IMAGES = {"id": [0, 1], "split": "train", "label": 0, "origin": ["a", "b"], "digest": [1, 2], "image": [b"1", b"2"]}


def test_a_table_may_have_further_columns_of_text(path):
    tables.write(
        DATASET.with_texts(["person", "site"]), path, {**IMAGES, "person": ["17", None], "site": ["x", "y"]}, {}
    )
    found = tables.read(DATASET, path, without=["image"])
    assert found.schema.names == ["id", "split", "label", "origin", "digest", "person", "site"]
    assert found["person"].to_pylist() == ["17", None]
    tables.write(DATASET, path, IMAGES, {})
    assert tables.read(DATASET, path).schema.names == DATASET.schema.names


@pytest.mark.parametrize("names", [["label"], ["person", "person"]])
def test_further_columns_have_names_of_their_own(names):
    with pytest.raises(TableError, match=f"table 'dataset' cannot have a further column {names[-1]}"):
        DATASET.with_texts(names)
    with pytest.raises(TableError, match="table 'split' cannot have a further column more"):
        SPLIT.with_texts(["more"])


def test_further_columns_are_written_as_declared(path):
    with pytest.raises(TableError, match="lacks column person"):
        tables.write(DATASET.with_texts(["person"]), path, IMAGES, {})
    with pytest.raises(TableError, match="no column person"):
        tables.write(DATASET, path, {**IMAGES, "person": ["17", "18"]}, {})
    with pytest.raises(TableError, match="column person: holds int64, must be string"):
        tables.write(DATASET.with_texts(["person"]), path, {**IMAGES, "person": [17, 18]}, {})


@pytest.mark.parametrize("change", [{"more": [1, 2]}, {"digest": [0.5, 1.5]}, {"label": None}])
def test_other_further_columns_are_no_table(path, change):
    columns = {k: v if isinstance(v, list) else [v] * 2 for k, v in {**IMAGES, **change}.items() if v is not None}
    pq.write_table(pa.table(columns), path)
    with pytest.raises(TableError, match="columns are not those of table 'dataset'"):
        tables.read(DATASET, path)


def test_matrix_reads_back_rows(path):
    logits = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    columns = {"id": np.arange(7), "role": ["test"] * 7, "label": np.zeros(7, int), "margin": np.ones(7)}
    with tables.Writer(PREDICTIONS, path, {}, RUN) as writer:
        for part in (slice(0, 4), slice(4, 7)):
            writer.write({**{k: v[part] for k, v in columns.items()}, "logits": tables.rows(logits[part])})
    np.testing.assert_array_equal(tables.matrix(tables.read(PREDICTIONS, path)["logits"]), logits)
    np.testing.assert_array_equal(tables.matrix(pa.chunked_array([tables.rows(logits.T)]).slice(1)), logits.T[1:])


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_declarations_name_existing_columns(table):
    assert {*table.key, *table.nullable} <= set(table.schema.names)
    assert len(set(table.schema.names)) == len(table.schema.names)


def test_tables_have_the_names_of_their_modules():
    assert {name: table.name for name, table in TABLES.items()} == {name: name for name in TABLES}
