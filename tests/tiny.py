"""A copy of the project with a tiny study in it, driven through Snakemake's command line."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import project

JOB = re.compile(r"^Job \d+: (.*)$", re.M)
COUNT = re.compile(r"^(all|total) +(\d+)$", re.M)
TINY = """
seeds: [0]
archs: [net]
methods: [cf, salun]
scopes: [last, all]
settings:
  datasets: {digits: {eps: {linf: {eps: [0.1, 0.3], headline: 0.1}}}}
  archs:
    net:
      label: tiny
      model: resnet18
      args: {layers: [1, 1, 1, 1], channels: [8, 8, 16, 16]}
      stem: cifar
      train: {epochs: 1, lr: 0.05, batch_size: 64}
      methods: {cf: {epochs: 1, batch_size: 256}, salun: {epochs: 1, batch_size: 256}}
  attacks: {pgd: {steps: 3}, noise: {draws: 2}, cascade: {steps: 3, target_steps: 2}}
  follow: 0
  samples: {test: 40, retain: 20, forget: 20}
  analysis: {resamples: 100}
"""


class Copy:
    """A copy of the project; ``study`` is the text of the overlay that its commands run with."""

    SNAKEMAKE = ("-m", "snakemake")  # Python's arguments

    def __init__(self, root: Path, study: str):
        self.root = root
        project.copy(root, study)

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self._command(arguments),
            cwd=self.root,
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=600,
        )

    def run(self, *arguments: str) -> None:
        done = self.snakemake(*arguments)
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"

    def planned(self, *arguments: str) -> set[str]:
        """The messages of the jobs that a dry run would start; each names its wildcards."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stderr
        return messages(done.stdout + done.stderr)

    def unlearn(self, *arguments: str) -> subprocess.CompletedProcess:
        """The command line of the package."""
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src")}
        command = [sys.executable, "-m", "unlearn", *arguments]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=120)

    @contextlib.contextmanager
    def edited(self, file: str, old: str, new: str) -> Iterator[None]:
        """One text in a file replaced by another, and put back at the end."""
        path = self.root / file
        before = path.read_text()
        assert before.count(old) == 1, f"{file} has {before.count(old)} times {old!r}"
        path.write_text(before.replace(old, new))
        try:
            yield
        finally:
            path.write_text(before)

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, *self.SNAKEMAKE, *self._options(arguments)]

    def _options(self, arguments: tuple[str, ...]) -> list[str]:
        return ["--configfile", project.OVERLAY, "--cores", "2", *arguments]

    def _environment(self) -> dict[str, str]:
        return project.environment()


class WarmCopy(Copy):
    """A copy whose commands fork from one process that has Snakemake loaded, which halves the time of a dry run."""

    SERVER = """
import json, os, sys
import pydantic, pandas, pyarrow, yaml
import snakemake.api, snakemake.cli, snakemake.dag, snakemake.workflow
import smart_open, snakemake.profiles, snakemake.report.html_reporter, snakemake.storage
from snakemake.executors import touch
touch.Executor.SLEEPING_TIME = 0  # it pretends that a job takes 0.1 s
for line in sys.stdin:
    if not (child := os.fork()):
        out = os.open("snakemake.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.argv = ["snakemake", *json.loads(line)]
        snakemake.cli.main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

    def __init__(self, root: Path, study: str):
        super().__init__(root, study)
        self.server = subprocess.Popen(
            [sys.executable, "-c", self.SERVER],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment(),
        )

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        print(json.dumps(self._options(arguments)), file=self.server.stdin, flush=True)
        status = int(self.server.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, "", (self.root / "snakemake.out").read_text())

    def finish(self) -> None:
        """Make the study look finished to Snakemake: every file is there, and recorded as made by the code and
        settings of this moment. Plans depend on nothing else, and no model is trained for them."""
        summary = self.snakemake("--summary", "all")
        lines = [line.split("\t") for line in summary.stderr.splitlines() if line.count("\t") == 5]
        for path in (self.root / file for file, *_ in lines[1:]):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self.run("--touch", "--forceall", "all")

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(10)


def messages(output: str) -> set[str]:
    """The messages of the jobs in a dry run's output, but for ``all``, which has none."""
    found = JOB.findall(output)
    counts = dict(COUNT.findall(output))
    assert len(found) == len(set(found)) == int(counts.get("total", 0)) - int(counts.get("all", 0)), output
    return set(found)
