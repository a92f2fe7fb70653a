"""The command line as a process of its own."""

import os
import signal
import subprocess
import sys
import tarfile

import pytest
from conftest import ROOT
from test_records import make

FIGURE = "results/figures/cost.csv"


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
