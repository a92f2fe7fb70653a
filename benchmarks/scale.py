"""How a large study behaves before any model is trained: CPU seconds and memory to plan it and to collect its metrics.

`python benchmarks/scale.py --plan 1000 5000 20000`: the default study with as many seeds as make so many runs is
planned from nothing, `snakemake -n all`, and in batches of about 1,000 runs. `--finished 1000`: all files of such a
study are made up, with Snakemake's metadata and this project's records; then it is planned again, where nothing is to
be done. `--collect 20000`: made-up metrics of so many runs are collected. Linux.
"""

import argparse
import collections
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import project

PER_SEED = 42  # runs of the default study for one seed: 2 architectures, 1 forget set, 21 cells
BATCH = 1000  # runs

# Another process, so that the peak is that of the command alone.
CHILD = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
sys.exit(status)
"""
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--configfile", project.OVERLAY]
DRY = ["-n", "--quiet", "rules"]
TOUCH = """
from snakemake import cli
from snakemake.executors import touch
touch.Executor.SLEEPING_TIME = 0  # it pretends that a job takes 0.1 s
cli.main()
"""
ROWS = 300  # of a run's metrics in the default study, about


def measured(command: list[str], folder: Path, limit: float) -> tuple[float, float, str]:
    """CPU seconds, peak memory in MB and output of a command. Raises RuntimeError, subprocess.TimeoutExpired."""
    timed = [sys.executable, "-c", CHILD, *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(timed, cwd=folder, env=project.environment(), text=True, timeout=limit, **pipes)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-3000:]}")
    kilobytes, seconds = map(float, done.stdout.split()[-2:])
    return seconds, kilobytes / 1024, done.stdout


def jobs(output: str) -> int:
    """The number of jobs of a plan."""
    return int(re.search(r"^total +(\d+)", output, re.M)[1])


def study(runs: int, folder: Path) -> tuple[Path, int]:
    """A copy of the project with a study of at least so many runs, and their number."""
    seeds = -(-runs // PER_SEED)
    root = folder / str(runs)
    project.copy(root, f"seeds: {list(range(seeds))}\n")
    return root, seeds * PER_SEED


def planned(runs: int, folder: Path, limit: float) -> str:
    """A row: planning from nothing, whole and the first of the batches."""
    root, runs = study(runs, folder)
    seconds, memory, output = measured([*SNAKEMAKE, *DRY, "--", "all"], root, limit)
    batches = max(1, runs // BATCH)
    batch = ["--batch", f"collect=1/{batches}", "--", "results/digits/metrics.parquet"]
    in_batches = measured([*SNAKEMAKE, *DRY, *batch], root, limit)
    shutil.rmtree(root)
    whole = f"{runs:,} | {jobs(output):,} | {seconds:.0f} | {1000 * seconds / jobs(output):.1f} | {memory:,.0f}"
    return f"| {whole} | {batches} | {jobs(in_batches[2]):,} | {in_batches[0]:.0f} | {in_batches[1]:,.0f} |"


def finished(runs: int, folder: Path, limit: float) -> str:
    """A row: Snakemake's own work for each job while it runs, planning when all is done, files in all and in the
    fullest folder."""
    root, runs = study(runs, folder)
    plan, _, output = measured([*SNAKEMAKE, *DRY, "--", "all"], root, limit)
    for path, *_ in summary(root, limit):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    touching = [sys.executable, "-c", TOUCH, *SNAKEMAKE[3:], "--cores", "2", "--touch", "--forceall", "--", "all"]
    running, _, _ = measured(touching, root, limit)
    rows = [
        [path, log, [name for name in inputs.split(",") if name]]
        for path, _, _, log, inputs, *_ in summary(root, limit)
    ]
    subprocess.run(
        [sys.executable, "-c", RECORDS],
        input=json.dumps(rows),
        text=True,
        check=True,
        cwd=root,
        env=project.environment(),
    )
    again, memory, done = measured([*SNAKEMAKE, "-n", "--", "all"], root, limit)
    if "Nothing to be done" not in done:
        raise RuntimeError(f"the study is not finished: {done[-3000:]}")
    folders = collections.Counter(path.parent for path in (root / "results").rglob("*"))
    metadata = len(list((root / ".snakemake/metadata").iterdir()))
    number, total = jobs(output), sum(folders.values())
    shutil.rmtree(root)
    return (
        f"| {runs:,} | {number:,} | {1000 * (running - plan) / number:.1f} | {again:.0f} | {1000 * again / number:.1f} "
        f"| {memory:,.0f} | {total:,} | {max(folders.values()):,} | {metadata:,} |"
    )


def summary(root: Path, limit: float) -> list[list[str]]:
    """Columns of each output: file, date, rule, log, inputs …"""
    _, _, output = measured([*SNAKEMAKE, "--cores", "2", "--detailed-summary", "all"], root, limit)
    rows = [line.split("\t") for line in output.splitlines() if line.count("\t") == 7]
    return rows[1:]


RECORDS = """
import json, sys
sys.path.insert(0, "src")
from unlearn.io import metadata
from unlearn.provenance import records
jobs = {}
for path, log, inputs in json.load(sys.stdin):
    jobs.setdefault(log, ([], inputs))[0].append(path)
for outputs, inputs in jobs.values():
    states = {kind: {p: records.state(p) for p in paths} for kind, paths in (("inputs", inputs), ("outputs", outputs))}
    path = records.record_of(outputs[0])
    path.parent.mkdir(exist_ok=True)
    records.write(path, metadata.record({}, stage="made.up", arguments={}, device="cpu", seconds=0.0, **states))
"""


def collected(runs: int, folder: Path, limit: float) -> str:
    """A row: seconds and memory of collecting as many metrics tables, and the size of what comes out."""
    parts = folder / "parts"
    parts.mkdir(parents=True)
    measured([sys.executable, "-c", MAKE, str(runs), str(parts)], project.ROOT / "src", limit)
    seconds, memory, _ = measured([sys.executable, "-c", COLLECT, str(parts)], project.ROOT / "src", limit)
    size = (folder / "metrics.parquet").stat().st_size / 2**20
    shutil.rmtree(parts)
    return f"| {runs:,} | {runs * ROWS:,} | {seconds:.0f} | {memory:,.0f} | {size:.0f} |"


MAKE = f"""
import sys
import numpy as np
from unlearn.io import tables
from unlearn.io.schema.metrics import METRICS
for run in range(int(sys.argv[1])):
    columns = dict.fromkeys(METRICS.schema.names, [None] * {ROWS})
    columns |= {{k: [v] * {ROWS} for k, v in dict(arch="net", forget="f", method="cf", scope="all", seed=run).items()}}
    columns |= {{"metric": [f"metric{{i}}" for i in range({ROWS})], "value": np.random.default_rng(run).random({ROWS})}}
    columns |= {{"n": [100] * {ROWS}}}
    tables.write(METRICS, f"{{sys.argv[2]}}/{{run}}.parquet", columns, {{}})
"""
COLLECT = """
import pathlib, sys
from unlearn.stages.collect import collect
folder = pathlib.Path(sys.argv[1])
collect("metrics", [str(p) for p in sorted(folder.iterdir())], str(folder.parent / "metrics.parquet"))
"""
TABLES = {
    planned: "| runs | jobs | plan, CPU s | ms a job | MB | batches | jobs of one | plan, CPU s | MB |",
    finished: "| runs | jobs | run, ms a job | plan again, CPU s | ms a job | MB | files | in a folder | metadata |",
    collected: "| runs | rows | collect, CPU s | MB | table, MB |",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option, measure in (("plan", planned), ("finished", finished), ("collect", collected)):
        parser.add_argument(f"--{option}", type=int, nargs="*", default=[], help=f"runs: {measure.__doc__}")
    parser.add_argument("--limit", type=float, default=3600, help="seconds that one command may take")
    parser.add_argument("--folder", type=Path, default=Path("build/scale"), help="must not exist yet")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    for numbers, measure in ((given.plan, planned), (given.finished, finished), (given.collect, collected)):
        if numbers:
            print(f"\n{TABLES[measure]}\n|{'---:|' * (TABLES[measure].count('|') - 1)}")
        for runs in numbers:
            print(measure(runs, given.folder.resolve(), given.limit), flush=True)


if __name__ == "__main__":
    main()
