"""The driver that kills a study at random: a small count of kills, and that it would see a difference."""

import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from safetensors.numpy import save_file

sys.path.insert(0, str(ROOT / "benchmarks"))

import kills


@pytest.mark.slow
def test_a_killed_study_ends_as_an_undisturbed_one(tmp_path):
    kills.main(3, 1, tmp_path / "kills")


@pytest.fixture
def folders(tmp_path):
    """Two equal folders of results."""
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "runs").mkdir(parents=True)
    save_file({"w": np.arange(6.0)}, one / "runs" / "model.safetensors")
    rows = pd.DataFrame({"metric": ["ua", "relative_seconds"], "value": [0.5, 2.0], "seconds": [1.0, 2.0]})
    rows.to_parquet(one / "metrics.parquet")
    (one / "verdicts.md").write_text("| gate | 1 |\n| cheaper | 3 |\n")
    (one / "cost.csv").write_text("3.0")
    (one / "gap.csv").write_text("4.0")
    shutil.copytree(one, other)
    return one, other


def test_equal_but_for_times(folders):
    one, other = folders
    rows = pd.read_parquet(other / "metrics.parquet")
    rows.assign(seconds=9.0, value=[0.5, 3.0]).to_parquet(other / "metrics.parquet")
    (other / "cost.csv").write_text("5.0")
    (other / "verdicts.md").write_text("| gate | 1 |\n| cheaper | 4 |\n")
    (other / ".made").mkdir()
    (other / ".made" / "metrics.parquet.json").write_text("{}")
    assert kills.differences(one, other) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("runs/model.safetensors", lambda p: save_file({"w": np.nextafter(np.arange(6.0), 9)}, p)),
        ("metrics.parquet", lambda p: pd.read_parquet(p).assign(value=[np.nextafter(0.5, 1), 2.0]).to_parquet(p)),
        ("metrics.parquet", lambda p: pd.read_parquet(p).assign(value=[0.6, 2.0]).to_parquet(p)),
        ("gap.csv", lambda p: p.write_text("4.1")),
        ("verdicts.md", lambda p: p.write_text("| gate | 2 |\n| cheaper | 3 |\n")),
        ("gap.csv", lambda p: p.unlink()),
        (".made/metrics.parquet.progress", lambda p: p.mkdir(parents=True)),
        ("runs/.model.safetensors.9.part", lambda p: p.write_text("")),
    ],
)
def test_sees_a_difference(folders, name, change):
    one, other = folders
    change(other / name)
    assert kills.differences(one, other)


@pytest.mark.slow
def test_sees_what_a_fork_server_has_left(tmp_path):
    assert kills.left_behind(tmp_path) == []
    (tmp_path / "unlearn-0-1-models").mkdir()
    assert kills.left_behind(tmp_path)
