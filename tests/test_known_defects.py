"""Defects of published code that concern more than one method; docs/known-defects.md lists them all."""

import ast
import re
import time
from pathlib import Path

import pytest
from conftest import EXECUTION

from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.schema.cost import COST
from unlearn.models import checkpoint, images
from unlearn.models.classifier import create
from unlearn.run import Run
from unlearn.stages.unlearn import unlearn

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs/known-defects.md"


def test_what_is_forgotten_and_retained_is_what_was_trained_on(dataset, split):
    """One code trains on a split of one seed and forgets by a split of another."""
    found = images.by_role(dataset, split, ("retain", "forget"))
    ids = [i for part in found.values() for i in part.ids.tolist()]
    assert sorted(ids) == images.training_set(dataset).ids.tolist() == list(range(40))


def test_the_forget_set_does_not_depend_on_the_seeds_of_training(config, schema):
    before = Study(config, schema).split_settings("random10")
    config["seeds"] = [77]
    assert Study(config, schema).split_settings("random10") == before
    assert "seed" in before


def test_time_is_the_methods_alone(spec, dataset, split, tmp_path, monkeypatch):
    """Some published times hold the evaluation, or the loading of data."""

    def slow(function):
        return lambda *arguments: (time.sleep(0.3), function(*arguments))[1]

    original = tmp_path / "original.safetensors"
    checkpoint.save(create(spec, 0), original, {})
    for module, name in ((checkpoint, "load"), (checkpoint, "save"), (images, "by_role")):
        monkeypatch.setattr(module, name, slow(getattr(module, name)))
    run = Run("net", "ten", "original", "all", 0)
    out = [str(tmp_path / file) for file in ("model.safetensors", "history.parquet", "cost.parquet")]
    unlearn(run, dataset, split, *out, {"method": {}, **EXECUTION}, "cpu", str(original))
    assert tables.read(COST, out[2])["seconds"].to_pylist()[0] < 0.3


def named():
    """(file, test) pairs that the page names."""
    return sorted(set(re.findall(r"`(test_\w+)::(test_\w+)", PAGE.read_text())))


@pytest.mark.parametrize(("file", "name"), named())
def test_the_page_names_tests_that_exist(file, name):
    tree = ast.parse((TESTS / f"{file}.py").read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
