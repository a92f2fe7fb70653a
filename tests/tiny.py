"""Copies of the project with a tiny study in them, driven through Snakemake's command line."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import project
from conftest import ROOT
from filelock import FileLock

TINY = """
seeds: [0]
archs: [net]
forgets: [listed]
methods: [cf, salun]
scopes: [last, all]
settings:
  forgets: {listed: {kind: ids, file: forget.txt}}
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


PLANNER = ROOT / "tests/planner.py"


class Copy:
    """A copy of the project; ``study`` is the text of the overlay that its commands run with."""

    SNAKEMAKE = ("-P", str(PLANNER))  # Python's arguments

    def __init__(self, root: Path, study: str):
        self.root = self.project = root
        project.copy(root, study)
        (root / "forget.txt").write_text("\n".join(map(str, range(100))))

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
        return self.started()

    def started(self) -> set[str]:
        """The messages of the jobs of the last command; ``all`` has none."""
        lines = (self.root / "planned").read_text(encoding="utf-8").splitlines()
        assert len(lines) == len(set(lines)), "each job has a message of its own"
        return set(lines)

    def unlearn(self, *arguments: str) -> subprocess.CompletedProcess:
        """The command line of the package."""
        environment = {**os.environ, "PYTHONPATH": str(self.project / "src")}
        command = [sys.executable, "-P", "-m", "unlearn", *arguments]
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


class Elsewhere(Copy):
    """A folder of a user's, in which commands run that name the Snakefile of a copy."""

    def __init__(self, root: Path, copy: Copy):
        self.root, self.project = root, copy.root
        for name in (project.OVERLAY, "forget.txt"):
            shutil.copy(copy.root / name, root)

    def _options(self, arguments: tuple[str, ...]) -> list[str]:
        return ["--snakefile", str(self.project / "Snakefile"), *super()._options(arguments)]


class WarmCopy(Copy):
    """A copy whose commands fork from one process that has Snakemake loaded."""

    def __init__(self, root: Path, study: str):
        super().__init__(root, study)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.server = subprocess.Popen([sys.executable, *self.SNAKEMAKE], cwd=root, env=self._environment(), **pipes)

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        print(json.dumps(self._options(arguments)), file=self.server.stdin, flush=True)
        status = int(self.server.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, "", (self.root / "snakemake.out").read_text())

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(10)


def finished(root: Path, shared: Path, kind: type[Copy] = Copy) -> Copy:
    """A copy in ``root`` with TINY finished in it. It is made once, in ``shared``, for all processes of a test run."""
    with FileLock(shared / "study.lock"):
        made = shared / "study"
        if not made.exists():
            study = Copy(shared / "unfinished", TINY)
            # In batches of runs, as large studies are: half of them, and exact retraining; then the rest.
            study.run("--batch", "collect=1/2", "results/digits/metrics.parquet")
            assert len(list(study.root.glob("results/digits/runs/**/metrics.parquet"))) in (3, 4)
            study.run("all")
            study.root.rename(made)
    subprocess.run(["cp", "-a", f"{made}/.", root], check=True)  # times and all
    return kind(root, TINY)
