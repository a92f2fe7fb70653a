"""One forget set serves every stage: it is what the config says, or an error that names the key."""

import numpy as np
import pytest

from unlearn.io import tables
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
