"""Plans as data: what Snakemake would run, what the fingerprints and params say that it should, and jobs by message.

A ``study`` is an overlay of config.yaml, as a mapping.
"""

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import project
import replay
import yaml
from conftest import ROOT

from unlearn.fingerprint import Sources

Study = Mapping[str, Any]
Jobs = set[str]

DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
DATA = {"Dataset: digits"}
GRID = {"Radii of attacks"}
LAYERS = {"Layers of every scope and architecture"}
AFTER_MODEL = ("predict", "probe", "attack", "measure")
WHOLE_RUN = ("unlearn", *AFTER_MODEL)


def splits(study: Study) -> Jobs:
    return {f"Split: what {forget} forgets" for forget in (DEFAULT | study)["forgets"]}


def pretraining(study: Study) -> Jobs:
    models = list(itertools.product(study["archs"], study["seeds"]))
    return {
        *(f"Pretrain: {arch}, seed {seed}" for arch, seed in models),
        *(f"Follow: the fairness-gap along pretraining of {arch}, seed {seed}" for arch, seed in models),
        "Collect trajectory",
    }


def of_runs(study: Study, *steps: str, methods: Iterable[str] = ()) -> Jobs:
    """The jobs of ``steps`` for all runs of the methods, in a study; "attack" stands for all its attacks."""
    study = DEFAULT | study
    methods = methods or ["original", "retrain", *study["methods"]]
    wanted = [step for step in steps if step != "attack"]
    wanted += [f"attack by {attack}" for attack in study["attacks"] if "attack" in steps]
    found = set()
    for arch, forget, method, seed in itertools.product(study["archs"], study["forgets"], methods, study["seeds"]):
        for scope in ["all"] if method in ("original", "retrain") else study["scopes"]:
            made = {
                "original": f"Unlearn: original on all layers of {arch}, {forget}, seed {seed}",
                "retrain": f"Retrain: {arch} without {forget}, all layers, seed {seed}",
            }.get(method, f"Unlearn: {method} on {scope} layers of {arch}, {forget}, seed {seed}")
            found |= {
                made if step == "unlearn" else f"{step.capitalize()}: {method}-{scope}, {arch}, {forget}, seed {seed}"
                for step in wanted
            }
    return found


def figures(study: Study) -> Jobs:
    return {f"Figure: {name}" for name in (DEFAULT | study)["figures"]}


def report(study: Study) -> Jobs:
    return {*figures(study), "Main table"}


def analysis(study: Study) -> Jobs:
    return {"Compare with exact retraining, correlate, judge the conjectures", *report(study)}


def end(study: Study) -> Jobs:
    """What sums up a study."""
    return {"Collect metrics", "Collect failures", "Gates", *analysis(study)}


def everything(study: Study) -> Jobs:
    return DATA | GRID | LAYERS | splits(study) | pretraining(study) | of_runs(study, *WHOLE_RUN) | end(study)


class Planned:
    """A copy of the project with a study, finished as far as Snakemake can see, and a process that plans it.

    The process has Snakemake and this package's syntax trees loaded and forks for each plan, which takes a third of the
    time. ``plan`` gives every job of the study (see ``replay.JOBS``) with its message, and whether it is ``planned``.
    """

    SERVER = """
import json, os, sys
import pydantic, pandas, pyarrow, yaml
import snakemake.api, snakemake.cli, snakemake.dag, snakemake.workflow
import smart_open, snakemake.profiles, snakemake.report.html_reporter, snakemake.storage
from snakemake.executors import touch
touch.Executor.SLEEPING_TIME = 0  # it pretends that a job takes 0.1 s
sys.path.insert(0, "src")
from pathlib import Path
from unlearn.fingerprint import Sources
Sources().digest(*(f"unlearn.{p.parent.name}.{p.stem}" for p in Path("src/unlearn").glob("*/[a-z]*.py")))
for line in sys.stdin:
    if not (child := os.fork()):
        out = os.open("snakemake.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        program, *sys.argv[1:] = json.loads(line)
        exec(program)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

    def __init__(self, root: Path, study: Study):
        self.root = root
        project.copy(root, yaml.safe_dump(study))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", self.SERVER]
        self.server = subprocess.Popen(command, cwd=root, env=project.environment(), **pipes)

    def stop(self) -> None:
        self.server.stdin.close()
        self.server.wait(10)

    def snakemake(self, *arguments: str, program: str = "snakemake.cli.main()") -> tuple[int, str]:
        """Exit status, and what was said."""
        options = ["--configfile", project.OVERLAY, "--cores", "2", *arguments]
        print(json.dumps([program, *options]), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline()), (self.root / "snakemake.out").read_text()

    def run(self, *arguments: str) -> None:
        status, said = self.snakemake(*arguments)
        assert status == 0, said

    def plan(self, *arguments: str) -> replay.Jobs:
        """All jobs, by their outputs."""
        status, said = self.snakemake("-n", *(arguments or ["all"]), program=replay.JOBS)
        assert status == 0, said
        return {" ".join(job["outputs"]): job for job in json.loads((self.root / "jobs.json").read_text())}

    def planned(self, *arguments: str) -> Jobs:
        return {job["message"] for job in self.plan(*arguments).values() if job["planned"]}

    def finish(self) -> None:
        """Make the study look finished: every file is there, and recorded as made by the code and settings of this
        moment. Plans depend on nothing else, and no model is trained for them."""
        for path in (self.root / name for job in self.plan().values() for name in job["outputs"]):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self.run("--touch", "--forceall", "all", "--cores", "50")

    @contextlib.contextmanager
    def replaced(self, file: str, text: str) -> Iterator[None]:
        """Another text in a file for a while; a file that is not there is written."""
        path = self.root / file
        before = path.read_bytes() if path.exists() else None
        path.write_text(text)
        try:
            yield
        finally:
            path.unlink() if before is None else path.write_bytes(before)

    @contextlib.contextmanager
    def appended(self, *files: str, text: str = "\nANSWER = 42\n") -> Iterator[None]:
        """One more statement at the end of files."""
        with contextlib.ExitStack() as stack:
            for file in files:
                stack.enter_context(self.replaced(file, (self.root / file).read_text() + text))
            yield

    def configured(self, study: Study | str) -> contextlib.AbstractContextManager:
        """Another config for a while."""
        return self.replaced(project.OVERLAY, study if isinstance(study, str) else yaml.safe_dump(study))


def remade(before: replay.Jobs, after: replay.Jobs) -> Jobs:
    """The jobs of ``after`` that follow from it that ``before`` is finished, by their inputs and params."""
    return {after[outputs]["message"] for outputs in replay.remade(before, after)}


def with_code(jobs: replay.Jobs, package: Path) -> replay.Jobs:
    """The jobs with the fingerprints of a package as it is now."""
    sources = Sources(package)
    digests: dict[str, str] = {}

    def now(code: str) -> str:
        if code not in digests:
            digests[code] = sources.digest(*code.split()[1:])
        return digests[code]

    return {
        outputs: job | {"params": job["params"] | {"code": now(job["params"]["code"])}} for outputs, job in jobs.items()
    }
