"""A code fingerprint covers exactly the code that a stage reaches, and nothing but code changes it."""

import os
import shutil

import pytest
from conftest import ROOT

from unlearn import provenance
from unlearn.provenance import Sources, StaleCode, canonical

STAGES = {
    "split": ("split.py", "unlearn.stages.split"),
    "predict": ("predict.py", "unlearn.stages.predict"),
    "measure": ("measure.py", "unlearn.stages.measure", "unlearn.metrics.accuracy"),
    "unlearn/rl": ("unlearn.py", "unlearn.stages.train", "unlearn.methods.rl"),
    "unlearn/salun": ("unlearn.py", "unlearn.stages.train", "unlearn.methods.salun"),
    "unlearn/scrub": ("unlearn.py", "unlearn.stages.train", "unlearn.methods.scrub"),
    "attack/pgd": ("attack.py", "unlearn.stages.attack", "unlearn.attacks.pgd"),
    "figure/cost": ("figure.py", "unlearn.stages.report", "unlearn.figures.cost"),
}
TRAIN = {"unlearn/rl", "unlearn/salun", "unlearn/scrub"}


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources to edit."""
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=without_caches)
    shutil.copytree(ROOT / "workflow/scripts", tmp_path / "scripts", ignore=without_caches)
    return tmp_path


def sources(checkout):
    return Sources(checkout / "src", checkout / "scripts")


def fingerprints(checkout):
    found = sources(checkout)
    return {stage: found.digest(*roots) for stage, roots in STAGES.items()}


def changed(checkout, edit):
    """The stages whose fingerprint an edit changes."""
    before = fingerprints(checkout)
    edit()
    after = fingerprints(checkout)
    return {stage for stage in STAGES if before[stage] != after[stage]}


def append(path, text):
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("src/unlearn/methods/rl.py", {"unlearn/rl", "unlearn/salun"}),
        ("src/unlearn/methods/salun.py", {"unlearn/salun"}),
        ("src/unlearn/methods/scrub.py", {"unlearn/scrub"}),
        ("src/unlearn/methods/bs.py", set()),
        ("src/unlearn/training.py", TRAIN),
        ("src/unlearn/metrics/accuracy.py", {"measure"}),
        ("src/unlearn/metrics/__init__.py", {"measure"}),
        ("src/unlearn/robustness.py", {"attack/pgd"}),
        ("src/unlearn/attacks/pgd.py", {"attack/pgd"}),
        ("src/unlearn/attacks/fgsm.py", set()),
        ("src/unlearn/figures/cost.py", {"figure/cost"}),
        ("src/unlearn/study.py", set()),
        ("src/unlearn/tables.py", set(STAGES)),
        ("scripts/split.py", {"split"}),
        ("scripts/unlearn.py", TRAIN),
    ],
)
def test_code_changes_what_reaches_it(checkout, file, stages):
    assert changed(checkout, lambda: append(checkout / file, "\nANSWER = 42\n")) == stages


@pytest.mark.parametrize("package", ["methods", "attacks", "data", "metrics", "figures"])
def test_importing_a_plug_in_runs_its_package(checkout, package):
    """``import unlearn.attacks.pgd`` executes ``unlearn/attacks/__init__.py``, so a closure holds it."""
    module = min((checkout / "src/unlearn" / package).glob("[a-z]*.py")).stem
    closure = sources(checkout).closure(f"unlearn.{package}.{module}")
    assert f"unlearn.{package}" in closure


def test_prose_and_time_stamps_change_nothing(checkout):
    def edit():
        for path in (checkout / "src/unlearn").rglob("*.py"):
            path.write_text(path.read_text().replace('"""', '"""Reworded. ', 1) + "\n\n# A remark.\n")
            os.utime(path, (0, 0))
        rl = checkout / "src/unlearn/methods/rl.py"
        rl.write_text(rl.read_text().replace('    """The batches of an epoch', '    """All batches of an epoch'))

    assert changed(checkout, edit) == set()


def test_a_text_that_is_no_docstring_is_code(checkout):
    path = checkout / "src/unlearn/methods/rl.py"
    assert "random labels" in path.read_text()
    edit = changed(checkout, lambda: path.write_text(path.read_text().replace('"random labels"', '"other labels"')))
    assert edit == {"unlearn/rl", "unlearn/salun"}


def test_closure_is_precise_to_the_method(checkout):
    closure = set(sources(checkout).closure(*STAGES["unlearn/salun"]))
    assert {"unlearn.py", "unlearn.launch", "unlearn.training", "unlearn.methods.rl"} <= closure
    assert not {"unlearn.methods.scrub", "unlearn.stages.attack", "unlearn.study"} & closure


def test_lazy_imports_are_reached(checkout):
    append(checkout / "src/unlearn/methods/scrub.py", "\ndef late():\n    from unlearn.stages import report\n")
    assert "unlearn.figures" in sources(checkout).closure("unlearn.methods.scrub")


def test_verify_compares_with_the_plan(checkout):
    planned = fingerprints(checkout)
    append(checkout / "src/unlearn/methods/rl.py", "\nANSWER = 42\n")
    sources(checkout).verify(planned["unlearn/scrub"])
    with pytest.raises(StaleCode, match="start it again"):
        sources(checkout).verify(planned["unlearn/salun"])


def test_a_misspelt_name_and_a_syntax_error_stop(checkout):
    with pytest.raises(KeyError, match=r"unlearn\.stages\.trian"):
        sources(checkout).digest("unlearn.stages.trian")
    append(checkout / "src/unlearn/methods/rl.py", "\ndef (:\n")
    with pytest.raises(SyntaxError, match=r"rl\.py, line \d+"):
        fingerprints(checkout)


def test_order_of_keys_means_nothing():
    one = {"b": 1, "a": {"d": [1, {"z": 0, "y": 1}], "c": 2}}
    other = {"a": {"c": 2, "d": [1, {"y": 1, "z": 0}]}, "b": 1}
    assert list(canonical(one)) == ["a", "b"]
    assert repr(canonical(one)) == repr(canonical(other))
    assert provenance.digest(one) == provenance.digest(other)
    assert provenance.digest(one) != provenance.digest({**one, "b": 2})
    assert canonical((1, 2)) == [1, 2] != canonical((2, 1))


def test_record_says_where_from():
    with provenance.job("0123 split.py", {"in": "ab"}):
        found = provenance.record({"b": 1, "a": 2}, run={"seed": 0})
    assert found["settings"] == {"a": 2, "b": 1}
    assert (found["code"], found["inputs"]) == ("0123 split.py", {"in": "ab"})
    assert found["run"] == {"seed": 0}
    assert set(found["libraries"]) == set(provenance.LIBRARIES)


def test_a_stage_called_by_hand_belongs_to_no_job():
    with pytest.raises(KeyError), provenance.job("0123 split.py", {"in": "ab"}):
        raise KeyError
    found = provenance.record()
    assert (found["code"], found["inputs"]) == ("", {})
