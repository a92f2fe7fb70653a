"""One forget set serves every stage: it is what the config says, or an error that names the key."""

import logging

import numpy as np
import pytest

from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.schema.composition import COMPOSITION
from unlearn.io.schema.dataset import DATASET
from unlearn.io.schema.split import SPLIT
from unlearn.stages.split import SplitError, split


@pytest.fixture
def forgotten(dataset, tmp_path):
    """``forgotten(kind=…)``: the ids that a forget set names."""

    def found(**settings):
        out = str(tmp_path / "split.parquet")
        split(dataset, out, "mine", settings)
        table = tables.read(SPLIT, out).to_pandas()
        assert table["id"].tolist() == list(range(56))
        assert (table["role"] == "test").tolist() == [False] * 40 + [True] * 16
        return table["id"][table["role"] == "forget"].tolist()

    return found


def test_random_is_a_fraction_drawn_by_seed(forgotten):
    chosen = forgotten(kind="random", fraction=0.25, seed=0)
    assert len(chosen) == 10
    assert chosen == forgotten(kind="random", fraction=0.25, seed=0)
    assert chosen != forgotten(kind="random", fraction=0.25, seed=1)


def test_random_does_not_depend_on_the_order_of_calls(forgotten):
    chosen = forgotten(kind="random", fraction=0.25, seed=0)
    np.random.seed(1)
    forgotten(kind="random", fraction=0.5, seed=3)
    assert chosen == forgotten(kind="random", fraction=0.25, seed=0)


@pytest.mark.parametrize("classes", [["bee", "dog"], [1, 3], ["bee", 3]])
def test_class_by_name_or_index(forgotten, classes):
    assert forgotten(kind="class", classes=classes) == [i for i in range(40) if i % 4 in (1, 3)]


def test_ids(forgotten, tmp_path):
    (tmp_path / "ids.txt").write_text("3\n 17 \n\n  \n5\n")
    assert forgotten(kind="ids", file=str(tmp_path / "ids.txt")) == [3, 5, 17]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\ntwo\n", r"ids\.txt, line 2: 'two' is not an id"),
        ("1\n2.0\n", r"line 2: '2\.0' is not an id"),
        ("1\n1_0\n", r"line 2: '1_0' is not an id"),
        ("٣\n", r"line 1: '٣' is not an id"),
        ("+3\n", r"line 1: '\+3' is not an id"),
        ("-1\n", r"line 1: '-1' is not an id"),
        ("1\n2\n1\n", "lists 1 twice"),
        ("1\n999\n", "lists 999, which is no training image"),
        ("1\n40\n", "lists 40, which is no training image"),  # a test image
        ("", "forgets 0 of 40 training images"),
        ("\n".join(map(str, range(40))), "forgets 40 of 40 training images"),
    ],
)
def test_refuses_ids(forgotten, tmp_path, text, message):
    (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(SplitError, match=message) as caught:
        forgotten(kind="ids", file=str(tmp_path / "ids.txt"))
    assert str(caught.value).startswith("settings.forgets.mine")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "class", "classes": ["cow"]}, r"\.classes: 'cow' is none of ant, bee, cat, dog"),
        ({"kind": "class", "classes": [4]}, r"\.classes: 4 is neither a position"),
        ({"kind": "class", "classes": [-1]}, r"\.classes: -1 is neither a position"),
        ({"kind": "class", "classes": [0, 1, 2, 3]}, "forgets 40 of 40"),
        ({"kind": "random", "fraction": 0.001, "seed": 0}, "forgets 0 of 40"),
        ({"kind": "random", "fraction": 0.999, "seed": 0}, "forgets 40 of 40"),
        ({"kind": "ids", "file": "absent.txt"}, r"\.file: absent\.txt"),
    ],
)
def test_refuses(forgotten, tmp_path, settings, message):
    with pytest.raises(SplitError, match=message) as caught:
        forgotten(**settings)
    assert str(caught.value).startswith("settings.forgets.mine")
    assert not (tmp_path / "split.parquet").exists()


# --- classes by number or name --------------------------------------------------------------------


@pytest.fixture
def numbered(tmp_path):
    """``numbered(names, classes)``: the names of the classes that are forgotten, of a dataset with such class names."""

    def found(names, classes):
        path, out = str(tmp_path / "numbered.parquet"), str(tmp_path / "split.parquet")
        labels = np.repeat(np.arange(len(names)), 2)
        columns = {"id": np.arange(len(labels)), "split": ["train"] * len(labels), "label": labels}
        columns |= {"origin": list(map(str, labels)), "digest": columns["id"], "image": [b""] * len(labels)}
        tables.write(DATASET, path, columns, {"classes": names, "shape": [1, 1, 1]})
        split(path, out, "mine", {"kind": "class", "classes": classes})
        roles = np.array(tables.read(SPLIT, out)["role"].to_pylist())
        return sorted({names[label] for label in labels[roles == "forget"]})

    return found


TWELVE = sorted(map(str, range(12)))  # folders 0 … 11 in the order of texts: 0, 1, 10, 11, 2, …


@pytest.mark.parametrize(
    ("names", "classes", "forgotten"),
    [
        (TWELVE, ["3"], ["3"]),
        (TWELVE, [0, "11"], ["0", "11"]),  # 0 is the name and the position of the same class
        (["1", "2", "3", "4", "5"], [5], ["5"]),  # no position
        (["01", "02", "11"], [11], ["11"]),
        (["ant", "bee", "cat"], [1], ["bee"]),
        (["e\u0301te", "hiver", "autre"], ["\u00e9te"], ["e\u0301te"]),
    ],
)
def test_a_number_is_the_name_or_the_position(numbered, names, classes, forgotten):
    assert numbered(names, classes) == forgotten


@pytest.mark.parametrize(
    ("names", "number", "readings"),
    [
        (TWELVE, 3, '"3" or "11"'),
        (["1", "2", "3", "4", "5"], 3, '"3" or "4"'),
        (["00", "01", "03", "02"], 3, '"03" or "02"'),
    ],
)
def test_a_number_with_two_readings_is_refused(numbered, names, number, readings):
    message = f"mine.classes: {number} is the name of one class and the position of another; write {readings}"
    with pytest.raises(SplitError, match=message):
        numbered(names, [number])


@pytest.mark.parametrize(("word", "read"), [("yes", "true"), ("no", "false")])
def test_yaml_reads_yes_as_true(config, word, read):
    config["settings"]["forgets"]["mine"] = {"kind": "class", "classes": [read == "true"]}
    with pytest.raises(ConfigError, match=rf"mine\.classes\.0: .*\(YAML reads {word} as {read}; put it in quotes\)"):
        Study(config)


# --- attributes, files, parts ---------------------------------------------------------------------


@pytest.fixture
def people(tmp_path):
    """``people(**settings)``: ids that are forgotten, and the composition. 12 training images of classes in turn, of
    persons 17 (0 to 4), 18 (5 to 8) and of nobody; ids 12 to 15 are test images."""
    path = str(tmp_path / "people.parquet")
    persons = ["17"] * 5 + ["18"] * 4 + [None] * 3 + ["17"] * 4
    columns = {
        "id": np.arange(16),
        "split": ["train"] * 12 + ["test"] * 4,
        "label": np.arange(16) % 3,
        "origin": [f"train/{'abc'[i % 3]}/{i // 3}.png" for i in range(12)]
        + [f"val/a/t{i}.png" for i in range(12, 16)],
        "digest": [*range(9), 0, 0, 5, 0, 13, 9, 14],
        "image": [b""] * 16,
        "person": persons,
    }
    columns["origin"][7] = "train/b/e\u0301.png"
    table = DATASET.with_texts(["person"])
    tables.write(table, path, columns, {"classes": ["a", "b", "c"], "shape": [1, 1, 1]})

    def found(**settings):
        out, composition = str(tmp_path / "split.parquet"), str(tmp_path / "composition.parquet")
        split(path, out, "mine", settings, composition)
        roles = tables.read(SPLIT, out).to_pandas().set_index("id")["role"]
        return roles.index[roles == "forget"].tolist(), tables.read(COMPOSITION, composition).to_pandas()

    return found


@pytest.mark.parametrize("value", [17, "17"])
def test_values_of_a_column_are_compared_as_texts(people, value):
    assert people(kind="where", column="person", values=[value])[0] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "age", "values": [1]}, r"mine\.column: no attribute 'age'; there are person"),
        ({"column": "label", "values": [1]}, r"mine\.column: no attribute 'label'; there are person"),
        (
            {"column": "person", "values": [17, 19, "x"]},
            r"mine\.values: no training image has person 19, x; there are 17, 18",
        ),
    ],
)
def test_refuses_values(people, settings, message):
    with pytest.raises(SplitError, match=message):
        people(kind="where", **settings)


def test_a_source_without_attributes_is_told(forgotten):
    with pytest.raises(SplitError, match="no attribute 'person'; the source keeps none"):
        forgotten(kind="where", column="person", values=[17])


def listed(tmp_path, *lines):
    path = tmp_path / "forget.txt"
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    return {"kind": "files", "file": str(path)}


def test_files_by_path_or_unique_name(people, tmp_path):
    lines = ["train/a/0.png", "./train/c/3.png", "", "\u00e9.png"]
    assert people(**listed(tmp_path, *lines))[0] == [0, 7, 11]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["0.png", "x.png", "t12.png", "train/a/9.png", "1.png"],
            "lists 1 test images: t12.png; 2 no training images: x.p"
            r"ng, train/a/9.png; 2 names of several images: 0.png, 1.png \(a path is written as train/a/0.png\)",
        ),
        (["train/a/0.png", "train/a/0.png"], "lists train/a/0.png twice"),
        (["train/b/e\u0301.png", "\u00e9.png"], "lists one image as train/b/\u00e9.png, \u00e9.png"),
        ([], "forgets 0 of 12"),
    ],
)
def test_files_are_refused_all_at_once(people, tmp_path, lines, message):
    with pytest.raises(SplitError, match=message) as caught:
        people(**listed(tmp_path, *lines))
    assert str(caught.value).startswith("settings.forgets.mine")


def test_random_can_be_stratified(people):
    draws = [people(kind="random", fraction=0.5, seed=seed, stratified=True) for seed in range(5)]
    for ids, made in draws:
        assert sorted(i % 3 for i in ids) == [0, 0, 1, 1, 2, 2]
        assert made[made["by"] == "class"]["forgotten"].tolist() == [2, 2, 2]
    assert len({tuple(ids) for ids, _ in draws}) > 1


@pytest.mark.parametrize(
    ("within", "pool"),
    [
        ({"classes": ["b", 2]}, [1, 2, 4, 5, 7, 8, 10, 11]),
        ({"column": "person", "values": [17, 18]}, list(range(9))),
        ({}, list(range(12))),
    ],
)
def test_random_within_a_part(people, within, pool):
    draws = [people(kind="random", fraction=0.25, seed=seed, within=within)[0] for seed in range(30)]
    assert {len(ids) for ids in draws} == {round(0.25 * len(pool))}
    assert sorted({i for ids in draws for i in ids}) == pool


@pytest.mark.parametrize("within", [{"classes": ["a"], "column": "x", "values": [1]}, {"column": "x"}, {"values": [1]}])
def test_a_part_is_named_in_one_way(config, within):
    config["settings"]["forgets"]["mine"] = {"kind": "random", "fraction": 0.1, "seed": 0, "within": within}
    with pytest.raises(ConfigError, match=r"mine\.within: must hold either classes, or column and values"):
        Study(config)


# --- composition ----------------------------------------------------------------------------------


def test_composition_counts_every_group(people):
    """By hand: person 17's five training images are forgotten; digests say which images are equal."""
    _, made = people(kind="where", column="person", values=[17])
    rows = made.drop(columns="forget").astype(object).where(made.notna().drop(columns="forget"), None)
    assert [tuple(row) for row in rows.itertuples(index=False)] == [
        ("all", None, 5, 7, 4, 1.0, 1.0),
        ("class", "a", 2, 2, 2, pytest.approx(2 / 5), pytest.approx(4 / 12)),
        ("class", "b", 2, 2, 1, pytest.approx(2 / 5), pytest.approx(4 / 12)),
        ("class", "c", 1, 3, 1, pytest.approx(1 / 5), pytest.approx(4 / 12)),
        ("person", "17", 5, 0, 4, 1.0, pytest.approx(5 / 12)),
        ("person", "18", 0, 4, 0, 0.0, pytest.approx(4 / 12)),
        ("person", None, 0, 3, 0, 0.0, pytest.approx(3 / 12)),
        # image 0 is forgotten, 9 and 10 are retained, 12 is a test image; 5 and 11 are retained
        ("copies of", "forget", 0, 2, 1, 0.0, pytest.approx(2 / 12)),
        ("copies of", "retain", 1, 4, 1, pytest.approx(1 / 5), pytest.approx(5 / 12)),
        ("copies of", "test", 1, 2, 0, pytest.approx(1 / 5), pytest.approx(3 / 12)),
    ]


def test_copies_are_warned_of(people, caplog):
    logging.getLogger("unlearn").propagate = True
    people(kind="where", column="person", values=[17])
    warned = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    assert warned == [
        "mine: 2 retained images equal images of the forget set pixel by pixel",
        "mine: 1 test images equal images of the forget set pixel by pixel",
        "mine: 1 test images equal images of the retain set pixel by pixel",
    ]


@pytest.mark.parametrize("name", ["role", "value", "by", "forget"])
def test_an_attribute_may_have_the_name_of_a_column(dataset, tmp_path, name):
    path, out = str(tmp_path / "more.parquet"), str(tmp_path / "composition.parquet")
    columns = tables.read(DATASET, dataset).to_pandas().assign(**{name: ["x", "y"] * 28})
    tables.write(DATASET.with_texts([name]), path, columns, {"classes": ["ant", "bee", "cat", "dog"]})
    split(path, str(tmp_path / "split.parquet"), "mine", {"kind": "where", "column": name, "values": ["y"]}, out)
    made = tables.read(COMPOSITION, out).to_pandas()
    of = made[made["by"] == name].set_index("value")["forgotten"]
    assert of.to_dict() == {"x": 0, "y": 20}
