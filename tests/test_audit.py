"""Results that are not what their jobs wrote are found: cheaply at each plan, by reading everything, and in a tree."""

import os
import random
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from safetensors.numpy import save_file
from test_records import request

from unlearn import cli as command
from unlearn.fingerprint import Sources
from unlearn.io import tables
from unlearn.io.columns import DETAIL_KEY
from unlearn.io.metadata import LIBRARIES
from unlearn.io.schema.metrics import METRICS
from unlearn.provenance import audit, records
from unlearn.provenance.verify import Finding, verify
from unlearn.stages.split import split

SOURCES = Sources()
MODEL = "results/runs/net/model.safetensors"
FIGURE = ("results/figures/cost.pdf", "results/figures/cost.png", "results/figures/cost.csv")
PAGES = ("results/tables/main.csv", "results/tables/main.md", "results/tables/main.tex")


def job(outputs, inputs, write, code="", stage="unlearn.stages.split", **arguments):
    """Run ``write()`` as a job."""
    with records.entry({**request(outputs, inputs, **arguments), "stage": stage, "code": code}):
        for name in outputs:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
        write()


def texts(names, *words):
    for name in names:
        Path(name).write_text(f"{name} from {' '.join(words)}\n")


@pytest.fixture
def results(dataset, tmp_path, monkeypatch):
    """A small finished study, by hand: data set, split from a file of ids, model, table, figure and pages."""
    monkeypatch.chdir(tmp_path)
    Path("forget.txt").write_text("1\n2\n3\n")
    settings = {"kind": "ids", "file": "forget.txt"}
    data, cut = "results/dataset.parquet", "results/splits/listed.parquet"
    table = "results/metrics.parquet"
    code = SOURCES.digest("unlearn.stages.split")
    job([data], [], lambda: shutil.copy(dataset, data), stage="unlearn.stages.dataset")
    job([cut], ["forget.txt", data], lambda: split(data, cut, "listed", settings), code, settings=settings)
    weights = {"w": np.arange(12, dtype=np.float32)}
    job([MODEL, "results/runs/net/log.txt"], [data, cut], lambda: model(weights), stage="unlearn.stages.unlearn")
    row = {"arch": "net", "forget": "listed", "method": "cf", "scope": "all", "seed": 0, "metric": "ua"}
    columns = {name: [value] for name, value in {**row, "value": 0.5, "n": 3}.items()}
    columns |= {name: [None] for name in DETAIL_KEY}
    job(
        [table],
        [MODEL],
        lambda: tables.write(METRICS, table, columns, {}),
        stage="unlearn.stages.collect",
    )
    job(FIGURE, [table], lambda: texts(FIGURE, table), stage="unlearn.stages.figure")
    job(PAGES, [table], lambda: texts(PAGES, table), stage="unlearn.stages.table")
    return tmp_path


def model(weights, path=MODEL):
    save_file(weights, path, {"format": "unlearn-1"})
    texts(["results/runs/net/log.txt"], "training")


def found():
    return audit.findings(list(audit.read_all("results")))


def age(path, nanoseconds=10**12):
    stat = os.stat(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - nanoseconds))


# --- at each plan -----------------------------------------------------------------------------------


def test_a_finished_study_has_no_findings(results):
    assert found() == {}
    assert verify("results", SOURCES) == ([], 11)


def test_no_results_no_records_no_findings(results):
    assert list(audit.read_all("nowhere")) == []
    for folder in results.rglob(".made"):
        shutil.rmtree(folder)
    assert found() == {}


@pytest.mark.parametrize("path", [MODEL, "results/metrics.parquet", FIGURE[1], "results/runs/net/log.txt"])
@pytest.mark.parametrize("change", ["edited", "truncated", "emptied", "older"])
def test_what_its_job_did_not_write_is_found(results, path, change):
    whole = Path(path).read_bytes()
    changes = {"edited": whole[:-1] + b"?", "truncated": whole[:-9], "emptied": b"", "older": b"x" + whole[1:]}
    Path(path).write_bytes(changes[change])
    if change == "older":
        age(path)
    wrong = found()
    assert list(wrong) == [path]
    assert wrong[path] == f"not what its job wrote (sha256 {records.state(path)['sha256'][:12]})"


def test_what_is_gone_is_for_snakemake_to_miss(results):
    Path(MODEL).unlink()
    assert found() == {}


def test_a_copy_is_the_same_result_and_gets_its_time_back(results):
    before = {path: os.stat(path).st_mtime_ns for path in (MODEL, *FIGURE)}
    shutil.copytree("results", "copy", copy_function=shutil.copyfile)
    shutil.rmtree("results")
    os.rename("copy", "results")
    assert all(os.stat(path).st_mtime_ns != time for path, time in before.items())
    assert found() == {}
    assert {path: os.stat(path).st_mtime_ns for path in before} == before


def test_other_inputs_than_a_result_was_made_from_are_found(results):
    Path("forget.txt").write_text("1\n2\n4\n")
    age("forget.txt")
    (path, reason), *more = found().items()
    assert (path, more) == ("results/splits/listed.parquet", [])
    assert reason.startswith("not made from forget.txt as it is now (sha256 ")
    Path("forget.txt").unlink()
    assert found() == {}
    Path("forget.txt").write_text("1\n2\n3\n")
    assert found() == {}


def test_a_child_of_a_remade_parent_is_found(results):
    job([MODEL, "results/runs/net/log.txt"], [], lambda: model({"w": np.ones(3, dtype=np.float32)}))
    assert list(found()) == ["results/metrics.parquet"]
    job([MODEL, "results/runs/net/log.txt"], [], lambda: model({"w": np.arange(12, dtype=np.float32)}))
    assert found() == {}, "the same bytes again"


def test_a_damaged_record_remakes_its_result(results):
    path = records.record_of(MODEL)
    path.write_bytes(path.read_bytes().replace(b'"threads": 2', b'"threads": 3'))
    assert found() == {MODEL: "has a damaged record"}
    path.write_bytes(b"")
    assert found() == {MODEL: "has a damaged record"}


def test_a_job_at_work_is_left_alone(results):
    with records.alone(records.record_of(MODEL).with_suffix(".lock")):
        Path(MODEL).write_text("half of a mod")
        assert found() == {}
    assert list(found()) == [MODEL]


def test_other_versions_are_counted(results, monkeypatch):
    whole = list(audit.read_all("results"))
    assert audit.outdated(whole) == {}
    assert audit.upgrade({}, 6, "warn") == []
    version = audit.importlib.metadata.version
    monkeypatch.setattr(audit.importlib.metadata, "version", lambda n: "99.0" if n in ("timm", "numpy") else version(n))
    others = audit.outdated(whole)
    assert len(others) == 11
    assert set(others.values()) == {f"timm {version('timm')}"}, "numpy is not among the watched"
    (line,) = audit.upgrade(others, 11, "rerun")
    assert line.startswith(f"11 of 11 results were made with timm {version('timm')}; installed: torch ")
    assert line.endswith("timm 99.0, torchattacks 3.5.1; they will be made again (upgrades: rerun)")


@pytest.mark.parametrize(
    ("inputs", "changes", "same"),
    [
        (["b", "a"], {}, True),
        (["a"], {}, False),
        (["a", "b"], {"code": "1"}, False),
        (["a", "b"], {"settings": {"x": 2}}, False),
        (["a", "b"], {"run": {"seed": 1}}, False),
        (["a", "b"], {"follow": 3}, False),
        (["a", "b"], {"metrics": "cost"}, True),
    ],
)
def test_a_record_fits_what_its_job_would_do(inputs, changes, same):
    run = {"run": {"seed": 0}}
    record = {"code": "0", "settings": {"x": 1}, "arguments": {**run, "metrics": []}, "inputs": {"a": {}, "b": {}}}
    assert audit.fits(record, inputs, {"code": "0", "settings": {"x": 1}, **run, **changes}) == same


def test_ten_lines_then_a_count():
    wrong = {f"results/{i}": "bad" for i in range(12)}
    assert audit.lines(wrong, "again") == [*(f"results/{i}: bad; again" for i in range(10)), "… and 2 more; again"]
    assert audit.lines({}, "again") == []
    assert len(audit.lines(dict(list(wrong.items())[:10]), "again")) == 10


# --- reading everything -----------------------------------------------------------------------------


def kinds():
    return {(finding.path, finding.kind) for finding in verify("results", SOURCES)[0]}


def test_any_flipped_bit_is_found(results):
    """In every kind of file, records included, with its time and size kept."""
    files = sorted(path for path in Path("results").rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {
        *(".parquet", ".safetensors", ".csv", ".md", ".pdf", ".png", ".tex"),
        ".json",
        ".txt",
    }
    rng = random.Random(0)
    for number in range(250):
        path = files[number % len(files)]
        whole, stat = path.read_bytes(), os.stat(path)
        place, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        findings = verify("results", SOURCES)[0]
        assert any(finding.path == str(path) for finding in findings), (path, place, bit)
        path.write_bytes(whole)
    assert kinds() == set()


def test_what_is_missing_or_unrecorded_is_listed(results):
    Path(FIGURE[0]).unlink()
    Path("results/stray.csv").write_text("a\n")
    Path("results/figures/.cost.png.1.part").write_text("")
    records.record_of(PAGES[0]).unlink()
    expected = {(page, "unrecorded") for page in (*PAGES, "results/stray.csv", "results/figures/.cost.png.1.part")}
    assert kinds() == {(FIGURE[0], "missing"), *expected}


def test_parents_are_those_that_were_used(results):
    Path("forget.txt").write_text("4\n")
    job([MODEL, "results/runs/net/log.txt"], [], lambda: model({"w": np.ones(3, dtype=np.float32)}))
    assert kinds() == {("results/splits/listed.parquet", "parent"), ("results/metrics.parquet", "parent")}
    Path("forget.txt").unlink()
    details = {finding.path: finding.detail for finding in verify("results", SOURCES)[0]}
    assert details["results/splits/listed.parquet"] == "made from forget.txt, which is gone"


def test_contents_are_checked_too(results):
    """A job may have written what no table or model may hold."""
    import pyarrow.parquet as pq

    table = pq.read_table("results/metrics.parquet")
    job(["results/metrics.parquet"], [], lambda: pq.write_table(table.select([0, 1]), "results/metrics.parquet"))
    weights = {"w": np.array([0.0, np.nan], dtype=np.float32)}
    job([MODEL, "results/runs/net/log.txt"], [], lambda: model(weights))
    data = pq.read_table("results/dataset.parquet")
    twice = data.take([0, *range(len(data))])
    job(["results/dataset.parquet"], [], lambda: pq.write_table(twice, "results/dataset.parquet"))
    details = {finding.path: finding.detail for finding in verify("results", SOURCES)[0] if finding.kind == "invalid"}
    assert details == {
        "results/metrics.parquet": "results/metrics.parquet: columns are not those of table 'metrics'",
        MODEL: "tensor w is not finite",
        "results/dataset.parquet": "1 rows repeat a key (id)",
    }


def test_code_that_changed_since_is_stale(results, tmp_path):
    edited = tmp_path / "edited"
    shutil.copytree(ROOT / "src/unlearn", edited)
    with open(edited / "stages/split.py", "a") as file:
        file.write("\nANSWER = 42\n")
    expected = Finding("results/splits/listed.parquet", "stale", "made by code that has changed since")
    assert verify("results", Sources(edited))[0] == [expected]
    (edited / "stages/split.py").unlink()
    (finding,) = verify("results", Sources(edited))[0]
    assert finding.detail.startswith("made by code that is no longer there")


def test_results_can_be_verified_from_elsewhere_but_not_renamed(results, monkeypatch):
    monkeypatch.chdir("/")
    assert verify(results / "results", SOURCES) == ([], 11)
    monkeypatch.chdir(results)
    os.rename("results", "moved")
    assert {kind for _, kind, _ in verify("moved", SOURCES)[0]} == {"moved", "unrecorded"}


# --- the command ------------------------------------------------------------------------------------


def test_verify_prints_a_line_a_finding_and_says_so(results, capsys):
    assert command.main(["verify", "results"]) == 0
    assert capsys.readouterr().out == "11 results read, 0 findings\n"
    Path(MODEL).write_text("no model")
    assert command.main(["verify", "results"]) == 1
    line, summary = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{MODEL}: damaged: sha256 ")
    assert summary == "11 results read, 1 findings"
    assert command.main(["verify", "nowhere"]) == 2
    assert capsys.readouterr().err == "unlearn: nowhere: no such folder\n"


def tree(capsys, path):
    assert command.main(["explain", path]) == 0
    return capsys.readouterr().out.splitlines()


def test_explain_goes_back_to_the_data_set(results, capsys):
    lines = tree(capsys, FIGURE[2])
    heads = [line.split("  by ")[0] for line in lines[:-1]]
    assert heads == [
        FIGURE[2],
        "└─ results/metrics.parquet",
        f"   └─ {MODEL}",
        "      ├─ results/dataset.parquet",
        "      └─ results/splits/listed.parquet",
        heads[5],
        "         └─ results/dataset.parquet  (above)",
    ]
    sha = records.state("forget.txt")["sha256"][:12]
    assert heads[5] == f"         ├─ forget.txt  sha256 {sha}  [! no record]"
    assert "!" not in "".join(lines[:5])
    record = records.read(records.record_of(MODEL))
    for part in ("by unlearn", f"commit {record['commit']}"):
        assert part in lines[2]
    assert "settings" not in lines[2], "the job had none"
    assert f"settings {records.find('results/splits/listed.parquet')['config'][:8]}" in lines[4]
    assert records.state(MODEL)["sha256"][:12] in lines[2]
    assert lines[-1].startswith("libraries: torch ")


def test_explain_marks_what_is_not_as_it_was(results, capsys, monkeypatch):
    Path(MODEL).write_text("no model")
    Path("forget.txt").unlink()
    lines = "\n".join(tree(capsys, "results/metrics.parquet"))
    assert (
        f"{records.read(records.record_of(MODEL))['outputs'][MODEL]['sha256'][:12]}  [! not what was recorded]" in lines
    )
    assert "forget.txt  [! no record]  [! gone]  [! made again since it was used]" in lines
    job([MODEL, "results/runs/net/log.txt"], [], lambda: model({"w": np.ones(3, dtype=np.float32)}))
    (line,) = (line for line in tree(capsys, "results/metrics.parquet") if MODEL in line)
    assert line.endswith("[! made again since it was used]")
    record = records.read(records.record_of("results/metrics.parquet"))
    record["libraries"]["timm"] = "0.1"
    records.write(records.record_of("results/metrics.parquet"), record)
    lines = tree(capsys, FIGURE[0])
    assert "[with timm 0.1]" in lines[1]
    assert "[with" not in lines[0]
    assert set(LIBRARIES) <= set(lines[-1].replace("libraries: ", " ").replace(",", "").split())


def test_explain_folds_what_is_alike(results, capsys):
    parts = [f"results/runs/{i}/metrics.parquet" for i in range(20)]
    for part in parts:
        job([part], [MODEL], lambda part=part: texts([part]), stage="unlearn.stages.measure")
    job(["results/all.parquet"], parts, lambda: texts(["results/all.parquet"]))
    Path(parts[3]).write_text("other")
    lines = tree(capsys, "results/all.parquet")
    assert lines[1].startswith("└─ metrics.parquet of 20 in results/runs  by measure")
    assert "sha256 (20 different)  [! 1 not what was recorded]" in lines[1]
    assert lines[2].startswith(f"   └─ {MODEL}")
    assert len(lines) == 8


def test_explain_needs_a_record(results, capsys):
    assert command.main(["explain", "forget.txt"]) == 2
    assert capsys.readouterr().err.startswith("unlearn: forget.txt: has no record")


def test_export_holds_no_weights_and_no_data(results, capsys):
    Path("config.yaml").write_text(yaml.safe_dump({"study": "x"}))
    arguments = ["export", "results", "one.tar.gz", "--config", "config.yaml"]
    assert command.main(arguments) == 0
    with tarfile.open("one.tar.gz") as archive:
        names = archive.getnames()
        assert archive.extractfile(FIGURE[1]).read() == Path(FIGURE[1]).read_bytes()
    records = [p.as_posix() for p in Path("results").rglob(".made/*.json")]
    assert len(records) == 6
    assert names == sorted([*FIGURE, *PAGES, "results/metrics.parquet", "config.yaml", *records])
    assert command.main(arguments) == 2, "the archive is there"
    assert "one.tar.gz" in capsys.readouterr().err
    assert Path("one.tar.gz").read_bytes()[4:8] == bytes(4), "gzip's time"
    for path in results.rglob("*"):
        path.touch()
    assert command.main(["export", "results", "two.tar.gz", "--config", "config.yaml"]) == 0
    assert Path("one.tar.gz").read_bytes() == Path("two.tar.gz").read_bytes()
    assert command.main(["export", "results", "three.tar.gz", "--config", "none.yaml"]) == 2
    assert not Path("three.tar.gz").exists()


def test_the_command_imports_no_torch(python):
    names = "unlearn.cli, unlearn.provenance.verify, unlearn.provenance.lineage, unlearn.provenance.export"
    assert python(f"import sys, {names}\nprint('torch' in sys.modules)") == "False"


def test_unrecorded_tables_are_read_too(results):
    """Results of a project without records."""
    for folder in list(results.rglob(".made")):
        shutil.rmtree(folder)
    Path("results/metrics.parquet").write_bytes(b"PAR1")
    assert {("results/metrics.parquet", "unrecorded"), ("results/metrics.parquet", "invalid")} <= kinds()
