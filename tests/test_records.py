"""Every result has a record: what made it, from what, and what it was when it was whole."""

import json
import os
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
from conftest import ROOT

from unlearn.io import metadata
from unlearn.provenance import records, sources


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The folder that a workflow runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def request(outputs, inputs=(), sources=(), **arguments):
    return {
        "sources": list(sources),
        "stage": "unlearn.stages.split",
        "arguments": arguments,
        "inputs": list(inputs),
        "outputs": list(outputs),
        "code": "0123 unlearn.stages.split",
        "threads": 2,
    }


def make(here, outputs, inputs=(), text="made", sources=(), **arguments):
    """Run a job that writes ``text`` into its outputs; returns its record."""
    with records.entry(request(outputs, inputs, sources, **arguments)):
        for name in outputs:
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_text(text)
    return records.read(records.record_of(outputs[0]))


def test_a_record_says_what_made_what_from_what(here):
    make(here, ["results/a.txt"], text="parent")
    settings = {"precision": "float32", "lr": 0.1}
    found = make(here, ["results/b/x", "results/b/y"], ["results/a.txt"], seed=3, settings=settings, device="cpu")
    assert set(found["inputs"]) == {"results/a.txt"}
    assert list(found["outputs"]) == ["results/b/x", "results/b/y"]
    stat = os.stat("results/b/y")
    assert (found["outputs"]["results/b/y"]["size"], found["outputs"]["results/b/y"]["mtime_ns"]) == (
        4,
        stat.st_mtime_ns,
    )
    assert found["stage"] == "unlearn.stages.split"
    assert (found["settings"], found["config"]) == (settings, metadata.digest(settings))
    assert found["arguments"] == {"seed": 3, "device": "cpu"}
    assert (found["device"], found["precision"], found["threads"]) == ("cpu", "float32", 2)
    assert found["code"] == "0123 unlearn.stages.split"
    assert set(found["libraries"]) == set(metadata.LIBRARIES)
    assert {"version", "commit", "dirty", "python", "machine", "started", "seconds"} <= set(found)


def test_digests_are_those_of_sha256sum(here):
    found = make(here, ["results/a.txt"], text="parent")
    printed = subprocess.run(["sha256sum", "results/a.txt"], capture_output=True, text=True, check=True).stdout
    assert found["outputs"]["results/a.txt"]["sha256"] == printed.split()[0]
    assert make(here, ["b"], ["results/a.txt"])["inputs"]["results/a.txt"] == found["outputs"]["results/a.txt"]


def test_an_input_that_is_as_recorded_is_not_read_again(here, monkeypatch):
    known = make(here, ["results/first", "results/a.txt"])["outputs"]["results/a.txt"]
    monkeypatch.setattr(records, "state", None)
    assert records.input_state("results/a.txt") == known


@pytest.mark.parametrize("change", ["size", "time", "record"])
def test_an_input_that_is_not_as_recorded_is_read(here, change):
    make(here, ["results/a.txt"])
    path, stat = here / "results/a.txt", os.stat("results/a.txt")
    path.write_text("more" if change == "time" else "longer")
    if change != "time":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if change == "record":
        records.record_of("results/a.txt").write_text("{}")
    assert records.input_state("results/a.txt") == records.state(path)


def test_tables_name_the_inputs_of_their_job(here, dataset):
    from unlearn.io import tables
    from unlearn.stages.split import split

    settings = {"kind": "random", "fraction": 0.25, "seed": 0}
    with records.entry(request(["split.parquet"], [dataset])):
        split(dataset, "split.parquet", "quarter", settings)
    found = tables.metadata("split.parquet")
    assert found["inputs"] == {dataset: records.state(dataset)["sha256"]}
    assert found["code"] == "0123 unlearn.stages.split"


def test_a_failed_job_leaves_no_record_and_no_lock(here):
    with pytest.raises(ValueError, match="the reason"), records.entry(request(["results/a"])):
        raise ValueError("the reason")
    silent = pytest.raises(records.RecordError, match="results/a: its job ended without writing it")
    with silent, records.entry(request(["results/a"])):
        pass
    assert list((here / "results/.made").iterdir()) == []


def test_a_record_describes_the_sources_of_its_job(here):
    (here / "images/cat").mkdir(parents=True)
    (here / "images/cat/1.png").write_text("cat")
    (here / "ids.txt").write_text("1\n")
    found = make(here, ["results/a"], sources=["images", "ids.txt", "nowhere"])
    assert found["sources"] == {name: sources.state(name) for name in ("images", "ids.txt", "nowhere")}
    assert found["inputs"] == {}
    assert make(here, ["results/b"])["sources"] == {}


def test_a_source_that_the_job_makes_is_recorded_as_it_left_it(here):
    with records.entry(request(["a"], sources=["data/cifar"])):
        (here / "data/cifar").mkdir(parents=True)
        (here / "data/cifar/batch").write_text("images")
        (here / "a").write_text("made")
    assert records.read(records.record_of("a"))["sources"] == {"data/cifar": sources.state("data/cifar")}


@pytest.mark.parametrize("change", ["more", "less", "other"])
def test_a_source_that_changes_while_it_is_read_is_an_error(here, change):
    """Nobody knows which of the two the job saw."""
    (here / "data").mkdir()
    (here / "data/1").write_text("1")
    changes = {"more": ("data/2", "2"), "less": ("data/1", None), "other": ("data/1", "11")}
    name, text = changes[change]
    refused = pytest.raises(records.RecordError, match=r"^data: was changed while it was read; start this again$")
    with refused, records.entry(request(["a"], sources=["data"])):
        (here / name).write_text(text) if text else (here / name).unlink()
        (here / "a").write_text("made")
    assert list((here / ".made").iterdir()) == []


# --- would a job do the same? ------------------------------------------------------------------------

ASKED = {
    "code": "0 unlearn.stages.split",
    "settings": {"x": 1, "y": {2: 0.1, 10: 3}},
    "run": {"seed": 0},
    "metrics": ["a", "b"],
    "sources": ["data"],
}


@pytest.mark.parametrize(
    ("inputs", "changes", "same"),
    [
        (["b", "a"], {}, True),
        (["a"], {}, False),
        (["a", "b", "c"], {}, False),
        (["a", "b"], {"code": "1 unlearn.stages.split"}, False),
        (["a", "b"], {"settings": {"x": 2, "y": {2: 0.1, 10: 3}}}, False),
        (["a", "b"], {"settings": {"y": {10: 3, 2: 0.1}, "x": 1}}, True),
        (["a", "b"], {"run": {"seed": 1}}, False),
        (["a", "b"], {"run": None}, False),
        (["a", "b"], {"follow": 3}, False),
        (["a", "b"], {"metrics": ["b", "a"]}, False),
        (["a", "b"], {"sources": []}, False),
        (["a", "b"], {"sources": ["data", "more"]}, False),
    ],
)
def test_a_record_fits_what_its_job_would_do(here, inputs, changes, same):
    """Also after the record was written and read. ``device`` is what the job found, not what it was asked for."""
    for name in ("a", "b"):
        (here / name).write_text(name)
    made = {**records.asked(ASKED), "inputs": ["a", "b"], "outputs": ["out"], "threads": 1}
    made["arguments"]["device"] = "cpu"
    with records.entry(made):
        (here / "out").write_text("made")
    params = {key: value for key, value in (ASKED | changes).items() if value is not None}
    asked = {**records.asked(params), "inputs": inputs, "outputs": ["out"]}
    assert records.fits(records.read(records.record_of("out")), asked) == same


# --- results that are vouched for --------------------------------------------------------------------


def test_who_vouches_for_a_result_says_that_now_it_would_come_out_like_this(here):
    first = make(here, ["a"], text="parent")
    made = make(here, ["b", "c"], ["a"], text="made", seed=1, device="cpu", settings={"x": 1})
    (here / "a").write_text("another parent")
    (here / "b").write_text("edited")
    (here / "data").write_text("1")
    asked = request(["b", "c"], ["a"], ["data"], seed=2, settings={"x": 2})
    asked["code"] = "4567 unlearn.stages.split"
    records.vouch(asked)
    vouched = records.read(records.record_of("b"))
    assert records.fits(vouched, asked)
    assert vouched["outputs"] == {name: records.state(name) for name in ("b", "c")}
    assert vouched["inputs"] == {"a": records.state("a")} != {"a": first["outputs"]["a"]}
    assert vouched["sources"] == {"data": sources.state("data")}
    assert vouched["arguments"] == {"seed": 2, "device": "cpu"}
    assert "vouched" in vouched
    assert {key: vouched[key] for key in records.MAKING} == {key: made[key] for key in records.MAKING}


def test_what_is_as_recorded_needs_nobody_to_vouch(here):
    before = make(here, ["a"], seed=1)
    records.vouch(request(["a"], seed=1))
    assert records.read(records.record_of("a")) == before
    os.utime("a", (0, 0))
    records.vouch(request(["a"], seed=1))
    assert records.read(records.record_of("a"))["outputs"]["a"]["mtime_ns"] == 0


@pytest.mark.parametrize("record", [None, b"damaged"])
def test_a_result_without_a_record_can_be_vouched_for(here, record):
    make(here, ["a"])
    path = records.record_of("a")
    path.unlink() if record is None else path.write_bytes(record)
    records.vouch(request(["a"], seed=1))
    assert records.fits(records.read(path), request(["a"], seed=1))


def test_a_record_of_an_earlier_version_cannot_be_read(here):
    record = make(here, ["a"])
    del record["sources"]
    records.write(records.record_of("a"), record)
    with pytest.raises(records.RecordError, match="is of an earlier version"):
        records.read(records.record_of("a"))


def test_any_flipped_byte_of_a_record_is_noticed(here):
    make(here, ["a"], seed=1, settings={"x": "ü"})
    path = records.record_of("a")
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(records.RecordError, match="damaged record"):
            records.read(path)
    for cut in (b"", whole[:-1], whole[:100], whole + b"\n"):
        path.write_bytes(cut)
        with pytest.raises(records.RecordError, match="damaged record"):
            records.read(path)
    path.write_bytes(whole)
    assert json.loads(whole).keys() - records.read(path).keys() == {"~record"}


HOLD = """
import logging, sys, time
from pathlib import Path
from unlearn.provenance import records
logging.basicConfig(level=logging.INFO)
request = {"stage": "t", "arguments": {}, "inputs": [], "outputs": ["out"], "code": "", "threads": 1}
with records.entry(request):
    Path(sys.argv[1]).write_text(str(time.monotonic()))
    time.sleep(0.5)
    Path("out").write_text(sys.argv[1])
    Path(sys.argv[2]).write_text(str(time.monotonic()))
"""


def test_of_jobs_for_one_result_one_runs_at_a_time(here):
    """What is left of a killed Snakemake and the job that repeats it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, f"start{i}", f"end{i}"], env=environment, stderr=subprocess.PIPE, text=True
        )
        for i in range(3)
    ]
    said = [job.communicate(timeout=60)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], said
    spans = sorted((float((here / f"start{i}").read_text()), float((here / f"end{i}").read_text())) for i in range(3))
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    waited = [text for text in said if "out: another process is making this; waiting for its end" in text]
    assert waited
    assert [p.name for p in (here / ".made").iterdir()] == ["out.json"]


def test_who_waited_holds_the_lock_that_others_see(here):
    """Its first holder removed the file, and a third would find a lock of its own."""
    lock, entered, done = records.record_of("out").with_suffix(".lock"), threading.Event(), threading.Event()

    def second():
        with records.alone(lock):
            entered.set()
            done.wait(20)

    thread = threading.Thread(target=second)
    with records.alone(lock):
        thread.start()
        time.sleep(0.3)
        assert not entered.is_set()
    assert entered.wait(20)
    assert records.held("out")
    done.set()
    thread.join()
    assert not records.held("out")


def test_a_lock_dies_with_its_holder(here):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    job = subprocess.Popen([sys.executable, "-c", HOLD.replace("0.5", "60"), "start", "end"], env=environment)
    deadline = time.monotonic() + 20
    while not (here / "start").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.kill()
    job.wait()
    assert (here / ".made/out.lock").exists()
    make(here, ["out"])
    assert not (here / ".made/out.lock").exists()
