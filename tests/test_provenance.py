"""The record that an artifact carries."""

import pytest

from unlearn.io import metadata
from unlearn.io.metadata import canonical


def test_order_of_keys_means_nothing():
    one = {"b": 1, "a": {"d": [1, {"z": 0, "y": 1}], "c": 2}}
    other = {"a": {"c": 2, "d": [1, {"y": 1, "z": 0}]}, "b": 1}
    assert list(canonical(one)) == ["a", "b"]
    assert repr(canonical(one)) == repr(canonical(other))
    assert metadata.digest(one) == metadata.digest(other)
    assert metadata.digest(one) != metadata.digest({**one, "b": 2})
    assert canonical((1, 2)) == [1, 2] != canonical((2, 1))


def test_record_says_where_from():
    with metadata.job("0123 unlearn.stages.split", {"in": "ab"}):
        found = metadata.record({"b": 1, "a": 2}, run={"seed": 0})
    assert found["settings"] == {"a": 2, "b": 1}
    assert (found["code"], found["inputs"]) == ("0123 unlearn.stages.split", {"in": "ab"})
    assert found["run"] == {"seed": 0}
    assert set(found["libraries"]) == set(metadata.LIBRARIES)


def test_a_stage_called_by_hand_belongs_to_no_job():
    with pytest.raises(KeyError), metadata.job("0123 unlearn.stages.split", {"in": "ab"}):
        raise KeyError
    found = metadata.record()
    assert (found["code"], found["inputs"]) == ("", {})
