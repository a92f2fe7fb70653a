"""The archive of a study holds what a reader needs, of that study alone, or there is no archive."""

import tarfile
from pathlib import Path

import pytest
from test_records import make

from unlearn import cli
from unlearn.io.catalogue import TABLES
from unlearn.provenance.export import export

STUDY = "results/digits"
PAGES = [f"{STUDY}/{name}" for name in ("figures/cost.pdf", "figures/cost.csv", "tables/main.md", "tables/main.tex")]
WIDE = [f"{STUDY}/{name}.parquet" for name in ("metrics", "failures", "radii", "trajectory")]
INNER = [f"{STUDY}/{name}" for name in ("dataset.parquet", "runs/cf/model.safetensors", "runs/cf/metrics.parquet")]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder in which two studies were made."""
    monkeypatch.chdir(tmp_path)
    for name in (*PAGES, *WIDE, *INNER, "results/other/metrics.parquet"):
        make(tmp_path, [name], text=name)
    Path("config.yaml").write_text("study: digits\n")
    return tmp_path


def names(archive="digits.tar.gz"):
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_a_study_is_exported_without_weights_and_data_and_alone(here):
    count = export(STUDY, "digits.tar.gz", ["config.yaml"])
    records = [path.as_posix() for path in Path(STUDY).rglob(".made/*.json")]
    assert len(records) == len([*PAGES, *WIDE, *INNER])
    assert names() == sorted(["config.yaml", *PAGES, *WIDE, *records])
    assert count == len(names())
    with tarfile.open("digits.tar.gz") as tar:
        assert tar.extractfile(PAGES[0]).read() == Path(PAGES[0]).read_bytes()


def test_every_study_wide_table_is_exported(here):
    whole = [f"{STUDY}/{name}.parquet" for name, table in TABLES.items() if table.whole]
    assert set(WIDE) <= set(whole)
    for name in whole:
        Path(name).touch()
    export(STUDY, "digits.tar.gz")
    assert set(whole) <= set(names())


def test_runs_on_another_disk_are_exported_with_their_records(here, tmp_path_factory):
    export(STUDY, "one.tar.gz")
    elsewhere = tmp_path_factory.mktemp("disk") / "runs"
    Path(STUDY, "runs").rename(elsewhere)
    Path(STUDY, "runs").symlink_to(elsewhere)
    export(STUDY, "two.tar.gz")
    assert names("two.tar.gz") == names("one.tar.gz")


def test_equal_files_give_equal_archives(here):
    export(STUDY, "one.tar.gz")
    for path in Path(STUDY).rglob("*"):
        path.touch()
    export(STUDY, "two.tgz")
    assert Path("one.tar.gz").read_bytes() == Path("two.tgz").read_bytes()


def test_members_are_named_from_where_the_study_was_made(here, monkeypatch):
    """From whatever folder, and in whatever folder the configs lie."""
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    export(f"../{STUDY}", "digits.tar.gz", ["../config.yaml"])
    assert "config.yaml" in names()
    assert all(name == "config.yaml" or name.startswith(f"{STUDY}/") for name in names())


@pytest.mark.parametrize(
    ("study", "archive", "configs", "message"),
    [
        (STUDY, "x.zip", [], "x.zip: "),
        (STUDY, "x", [], "x: "),
        (STUDY, "there.tar.gz", [], "there.tar.gz: exists already"),
        (STUDY, "x.tar.gz", ["none.yaml"], "none.yaml: no such file"),
        (STUDY, "x.tar.gz", ["config.yaml", "results/config.yaml"], "two configs have the same file name"),
        ("results", "x.tar.gz", [], "results: holds no study"),
        ("none", "x.tar.gz", [], "none: holds no study"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(here, study, archive, configs, message, capsys):
    Path("there.tar.gz").write_text("of somebody")
    Path("results/config.yaml").touch()
    before = sorted(here.rglob("*"))
    options = [word for config in configs for word in ("--config", config)]
    assert cli.main(["export", study, archive, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert sorted(here.rglob("*")) == before
    assert Path("there.tar.gz").read_text() == "of somebody"


def test_a_failure_leaves_no_archive(here):
    """The last file is a link to nowhere."""
    Path(PAGES[-1]).unlink()
    Path(PAGES[-1]).symlink_to("gone")
    before = sorted(here.rglob("*"))
    with pytest.raises(FileNotFoundError):
        export(STUDY, "digits.tar.gz")
    assert sorted(here.rglob("*")) == before
