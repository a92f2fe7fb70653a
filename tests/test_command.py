"""The command line as a process of its own."""

import os
import signal
import subprocess
import sys
import tarfile

import pytest
from conftest import ROOT
from test_records import make, request

import unlearn
from unlearn.cli import main
from unlearn.config import plugins
from unlearn.fingerprint import Sources
from unlearn.provenance import records

FIGURE = "results/figures/cost.csv"
HEAVY = ("torch", "numpy", "pandas", "matplotlib", "pyarrow", "snakemake")


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"unlearn {unlearn.__version__}\n")


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_list_has_a_line_for_each_plug_in(capsys, kind):
    """Its name, and the first line of its description, which is there."""
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines] == plugins.names(kind)
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        plugins.declaration(kind, name).doc.splitlines()[0] for name in plugins.names(kind)
    ]


def test_list_loads_no_library(python):
    """Each of these takes a tenth of a second to three."""
    code = "import sys; from unlearn.cli import main\n[main(['list', kind]) for kind in {kinds}]\n"
    printed = python(f"{code.format(kinds=plugins.KINDS)}print('loaded', *(m for m in {HEAVY} if m in sys.modules))")
    assert printed.splitlines()[-1] == "loaded"


@pytest.mark.parametrize("text", ["made", "edited"])
def test_status_says_whether_results_are_as_recorded(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / FIGURE).parent.mkdir(parents=True)
    with records.entry({**request([FIGURE]), "code": Sources().digest("unlearn.stages.figure")}):
        (tmp_path / FIGURE).write_text("made")
    (tmp_path / FIGURE).write_text(text)
    assert main(["verify", "results"]) == (text == "edited")


@pytest.mark.parametrize(
    "arguments",
    [["verify", "none"], ["explain", "none.csv"], ["export", "none", "none.tar.gz"], ["list", "methods"]],
    ids=lambda arguments: arguments[0],
)
def test_what_cannot_be_done_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/mine.py").write_text("this is no Python")
    monkeypatch.setattr(plugins, "ROOT", tmp_path)
    assert main(arguments) == 2
    written = capsys.readouterr()
    assert (written.out, written.err.count("\n")) == ("", 1)
    assert written.err.startswith("unlearn: ")


@pytest.mark.parametrize(
    "arguments",
    [["explain", FIGURE], ["verify", "results"], ["export", "results", "one.tar.gz"], ["--help"]],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_goes_ends_the_command_quietly(tmp_path, monkeypatch, arguments, buffered):
    """By SIGPIPE, at the first line or at the end; an archive is whole by then."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path, [FIGURE])
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "" if buffered else "1"}
    command = [sys.executable, "-m", "unlearn", *arguments]
    done = subprocess.run(command, env=environment, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")
    if "export" in arguments:
        with tarfile.open("one.tar.gz") as archive:
            assert FIGURE in archive.getnames()
