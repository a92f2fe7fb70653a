"""Results that are not what their jobs wrote are noticed: at each plan, by ``verify``, and by ``explain``."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
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
from unlearn.provenance.lineage import Lineage
from unlearn.provenance.verify import Finding, verify
from unlearn.stages.split import split

SOURCES = Sources()
DATA, CUT = "results/dataset.parquet", "results/splits/listed.parquet"
MODEL = "results/runs/net/model.safetensors"
FIGURE = ("results/figures/cost.pdf", "results/figures/cost.png", "results/figures/cost.csv")
PAGES = ("results/tables/main.csv", "results/tables/main.md", "results/tables/main.tex")


def job(outputs, inputs, write, stage="unlearn.stages.split", sources=(), **arguments):
    """Run ``write()`` as a job."""
    asked = {**request(outputs, inputs, sources, **arguments), "stage": stage, "code": SOURCES.digest(stage)}
    with records.entry(asked):
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
    job([data], [], lambda: shutil.copy(dataset, data), stage="unlearn.stages.dataset")
    listed = {"sources": ["forget.txt"], "settings": settings}
    job([cut], [data], lambda: split(data, cut, "listed", settings), **listed)
    weights = {"w": np.arange(12, dtype=np.float32)}
    job([MODEL, "results/runs/net/log.txt"], [data, cut], lambda: model(weights), stage="unlearn.stages.unlearn")
    row = {"arch": "net", "forget": "listed", "method": "cf", "scope": "all", "seed": 0, "metric": "ua"}
    columns = {name: [value] for name, value in {**row, "value": 0.5, "n": 3, "reason": None}.items()}
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
    assert reason == f"not made from forget.txt as it is now (sha256 {records.state('forget.txt')['sha256'][:12]})"
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
    assert found() == {MODEL: "its record is damaged, or of an earlier version"}
    path.write_bytes(b"")
    assert found() == {MODEL: "its record is damaged, or of an earlier version"}


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


def test_ten_lines_then_a_count():
    wrong = {f"results/{i}": "bad" for i in range(12)}
    assert audit.lines(wrong, "again") == [*(f"results/{i}: bad; again" for i in range(10)), "… and 2 more; again"]
    assert audit.lines({}, "again") == []
    assert len(audit.lines(dict(list(wrong.items())[:10]), "again")) == 10


# --- sources ----------------------------------------------------------------------------------------


@pytest.fixture
def made_from_images(results):
    """The data set was made from a folder of images and from a Parquet file."""
    for name in ("train/cat/1.png", "train/dog/1.png", "val/cat/2.png"):
        Path("images", name).parent.mkdir(parents=True, exist_ok=True)
        Path("images", name).write_text(name)
    Path("data.parquet").write_text("rows")
    job([DATA], [], lambda: None, stage="unlearn.stages.dataset", sources=["images", "data.parquet"])
    return Path("images")


@pytest.mark.parametrize(
    ("change", "result", "reason"),
    [
        (lambda: shutil.rmtree("images/train/dog"), DATA, "images as it is now (3 files then, 2 now)"),
        (lambda: Path("images/train/cat/1.png").write_text("train/cat/9.png"), DATA, "images as it is now (sha256 "),
        (lambda: Path("images/train/cat/3.png").touch(), DATA, "images as it is now (3 files then, 4 now)"),
        (lambda: Path("images/train/eel").mkdir(), DATA, "images as it is now (sha256 "),
        (lambda: Path("data.parquet").write_text("other rows"), DATA, "data.parquet as it is now (sha256 "),
        (lambda: Path("forget.txt").write_text("1\n2\n4\n"), CUT, "forget.txt as it is now (sha256 "),
        (lambda: Path("forget.txt").write_text("1\n2\n4\n") and age("forget.txt"), CUT, "forget.txt as it is now"),
    ],
    ids=[
        "class deleted",
        "image replaced",
        "image added",
        "class added",
        "file overwritten",
        "ids edited",
        "older ids",
    ],
)
def test_a_source_that_was_changed_remakes_what_was_read_from_it(made_from_images, change, result, reason):
    assert found() == {}
    change()
    (path, why), *more = found().items()
    assert (path, more) == (result, [])
    assert why.startswith(f"not made from {reason}")
    assert (result, "parent") in kinds()


@pytest.mark.parametrize("path", ["images/train/cat/1.png", "data.parquet", "forget.txt"])
def test_a_source_that_was_touched_is_read_once(made_from_images, path, monkeypatch):
    """Its new time is recorded, so that the next plan need not read it."""
    age(path)
    assert found() == {}
    with monkeypatch.context() as patch:
        patch.setattr(audit.sources, "sha256", None)
        assert found() == {}
    assert ({kind for _, kind in kinds()}, verify("results", SOURCES)[1]) == (set(), 11)


def test_sources_of_others_results_are_read_each_time(made_from_images, monkeypatch):
    def refused(path, record):
        raise PermissionError(path)

    age("data.parquet")
    before = records.read(records.record_of(DATA))
    monkeypatch.setattr(records, "write", refused)
    assert found() == found() == {}
    assert records.read(records.record_of(DATA)) == before


def test_a_source_that_cannot_be_read_is_another(made_from_images, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    age("data.parquet")
    monkeypatch.setattr(audit.sources, "sha256", refused)
    (reason,) = found().values()
    assert reason == "not made from data.parquet as it is now ([Errno 13] Permission denied: 'data.parquet')"


def test_a_source_that_is_gone_is_named_and_remakes_nothing(made_from_images):
    """Data are deleted to save space, or stay where the results were made."""
    shutil.rmtree("images")
    assert found() == {}
    forced, lines = plan([recorded_job(DATA)])
    assert forced == set()
    assert lines == [f"{DATA}: made from images, which is gone; it is used as it is"]
    assert (DATA, "parent") in kinds()


# --- what Snakemake is told --------------------------------------------------------------------------


def recorded_job(name, **changes):
    """The job of Snakemake's that makes a result as its record says, but for changes of its params."""
    record = records.find(name)
    arguments = {"settings": record["settings"]} if record["settings"] else {}
    params = {**record["arguments"], **arguments, "code": record["code"], "sources": list(record["sources"])}
    return SimpleNamespace(input=list(record["inputs"]), output=list(record["outputs"]), params=params | changes)


def jobs_of(results, **changes):
    """All jobs of the study; ``changes``: first output → changes of its job's params."""
    names = [next(iter(record["outputs"])) for _, record in audit.read_all("results") if record]
    return [SimpleNamespace(input=["anything"], output=[], params={})] + [
        recorded_job(name, **changes.get(name, {})) for name in names
    ]


def plan(jobs, by_itself=(), upgrades="warn", touch=False):
    """What the audit forces, and says; Snakemake plans some jobs by itself."""
    return audit.plan("results", jobs, lambda job: job.output[0] in by_itself, upgrades, touch)


def test_a_plan_of_a_finished_study_forces_nothing(results):
    assert plan(jobs_of(results)) == (set(), [])


def test_damage_is_forced_and_named(results):
    jobs = jobs_of(results)
    Path(FIGURE[1]).write_text("x")
    forced, (line,) = plan(jobs)
    assert forced == {FIGURE[1]}
    assert line.startswith(f"{FIGURE[1]}: not what its job wrote (sha256 ")
    assert line.endswith("; it will be made again")
    assert plan(jobs, touch=True)[1][0].endswith("; it is accepted as it is (--touch)")


@pytest.mark.parametrize(
    "changes", [{"settings": {"kind": "random"}}, {"sources": []}, {"code": "9 unlearn.stages.split"}]
)
def test_results_of_other_settings_are_forced_where_snakemake_does_not_know(results, changes):
    jobs = jobs_of(results, **{CUT: changes})
    reason = "not made by the code, settings and inputs of now"
    assert plan(jobs) == ({CUT}, [f"{CUT}: {reason}; it will be made again"])
    assert plan(jobs, by_itself=[CUT]) == (set(), []), "Snakemake gives the reason"


def test_what_no_allowed_rule_makes_is_used_and_named(results):
    Path(MODEL).write_text("no model")
    Path(DATA).write_text("no data")
    jobs = [recorded_job("results/metrics.parquet")]
    forced, (line,) = plan(jobs)
    assert forced == set()
    assert line.startswith(f"{MODEL}: ")
    assert line.endswith("; it is used as it is: no allowed rule makes it again")


def test_upgrades_force_what_they_concern(results, monkeypatch):
    jobs = jobs_of(results)
    version = audit.importlib.metadata.version
    monkeypatch.setattr(audit.importlib.metadata, "version", lambda n: "99.0" if n == "timm" else version(n))
    assert plan(jobs[:2])[0] == set()
    assert plan(jobs[:2], upgrades="rerun")[0] == set(jobs[1].output)
    assert len(plan(jobs)[1]) == 1


def test_a_study_that_was_renamed_is_made_again(results):
    """Its records say that they are of other results, so nothing says what these are."""
    os.rename("results/figures", "results/pictures")
    assert found() == {"results/pictures/cost.pdf": f"has the record of {FIGURE[0]}"}


def test_vouching_makes_a_changed_study_clean(results):
    jobs = jobs_of(results, **{CUT: {"settings": {"kind": "random"}}})
    Path(MODEL).write_bytes(Path(MODEL).read_bytes()[::-1])
    Path(FIGURE[1]).unlink()
    Path("forget.txt").write_text("4\n")
    records.record_of(DATA).write_bytes(b"damaged")
    (data,) = [SimpleNamespace(input=[], output=[DATA], params={"code": SOURCES.digest("unlearn.stages.dataset")})]
    audit.vouch([*jobs, data])
    assert plan([*jobs, data]) == (set(), [])
    assert records.find(CUT)["settings"] == {"kind": "random"}
    assert kinds() == {(MODEL, "invalid"), (FIGURE[1], "missing")}
    assert "vouched" not in records.find(FIGURE[0]), "one of its job's results is missing"
    assert "[vouched]" in next(line for line in Lineage("results/metrics.parquet").lines() if MODEL in line)


# --- reading everything -----------------------------------------------------------------------------


def kinds():
    return {(finding.path, finding.kind) for finding in verify("results", SOURCES)[0]}


@pytest.mark.slow
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
    (edited / "stages/split.py").write_text("def split(:")
    (finding,) = verify("results", Sources(edited))[0]
    assert "split.py, line 1: " in finding.detail
    (edited / "stages/split.py").unlink()
    (finding,) = verify("results", Sources(edited))[0]
    assert finding.detail.startswith("made by code that is no longer there")


def test_results_can_be_verified_from_elsewhere_but_not_renamed(results, monkeypatch):
    monkeypatch.chdir("/")
    assert verify(results / "results", SOURCES) == ([], 11)
    monkeypatch.chdir(results)
    os.rename("results", "moved")
    assert {kind for _, kind, _ in verify("moved", SOURCES)[0]} == {"moved", "unrecorded"}


@pytest.mark.parametrize("linked", ["results", "results/figures", "results/runs", MODEL])
@pytest.mark.parametrize("asked", ["results", "link", "results/.."])
def test_links_in_a_tree_of_results_change_nothing(results, tmp_path_factory, linked, asked):
    """Results on another disk."""
    elsewhere = tmp_path_factory.mktemp("disk") / "moved"
    os.rename(linked, elsewhere)
    Path(linked).symlink_to(elsewhere)
    Path("link").symlink_to("results")
    others = 0
    if asked == "results/..":
        asked, others = ".", 2  # the list of ids and the data set that the results were made from
    findings, count = verify(asked, SOURCES)
    assert {finding.path for finding in findings if finding.kind == "unrecorded"} <= {"forget.txt", "dataset.parquet"}
    assert (len(findings), count) == (others, 11 + others)
    assert found() == {}
    with open(FIGURE[1], "a") as file:
        file.write("x")
    assert [name for name, kind in kinds() if kind == "damaged"] == [FIGURE[1]]
    assert list(found()) == [FIGURE[1]]


def test_a_link_to_a_folder_above_is_not_followed(results):
    Path("results/runs/up").symlink_to("..")
    assert verify("results", SOURCES) == ([], 11)


@pytest.mark.slow
def test_an_installed_package_says_what_a_checkout_says(results, tmp_path):
    """Without sources, scripts and git around it."""
    shutil.copytree(ROOT / "src/unlearn", tmp_path / "site/unlearn", ignore=shutil.ignore_patterns("__pycache__"))
    with open(MODEL, "a") as file:
        file.write("x")
    command = [sys.executable, "-P", "-m", "unlearn", "verify", "results"]

    def say(path):
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True, text=True)

    installed, checkout = say(tmp_path / "site"), say(ROOT / "src")
    assert (installed.returncode, installed.stderr) == (1, "")
    assert "11 results read, 1 findings" in installed.stdout
    assert installed.stdout == checkout.stdout
    with open(tmp_path / "site/unlearn/stages/split.py", "a") as file:
        file.write("\nANSWER = 42\n")
    assert f"{CUT}: stale" in say(tmp_path / "site").stdout


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
        "         ├─ results/dataset.parquet  (above)",
        heads[6],
    ]
    sha = records.state("forget.txt")["sha256"][:12]
    assert heads[6] == f"         └─ forget.txt  sha256 {sha}"
    assert "!" not in "".join(lines)
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
    assert "forget.txt  [! gone]  [! changed since it was used]" in lines
    job([MODEL, "results/runs/net/log.txt"], [], lambda: model({"w": np.ones(3, dtype=np.float32)}))
    (line,) = (line for line in tree(capsys, "results/metrics.parquet") if MODEL in line)
    assert line.endswith("[! changed since it was used]")
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


def test_the_command_imports_no_torch(python):
    names = "unlearn.cli, unlearn.provenance.verify, unlearn.provenance.lineage, unlearn.provenance.export"
    assert python(f"import sys, {names}\nprint('torch' in sys.modules)") == "False"


def test_unrecorded_tables_are_read_too(results):
    """Results of a project without records."""
    for folder in list(results.rglob(".made")):
        shutil.rmtree(folder)
    Path("results/metrics.parquet").write_bytes(b"PAR1")
    assert {("results/metrics.parquet", "unrecorded"), ("results/metrics.parquet", "invalid")} <= kinds()
