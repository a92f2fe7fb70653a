"""How a large study behaves before any model is trained: CPU seconds and memory to plan it, and to collect its metrics.

`python benchmarks/scale.py --plan 1000 5000 --collect 20000`: for each number of runs the default study is planned from
nothing (`snakemake -n all`) with as many seeds as that takes, or made-up metrics of so many runs are collected. Linux.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "config.yaml", "workflow", "src", "profiles", "environment.yml")
PER_SEED = 42  # runs of the default study for one seed: 2 architectures, 1 forget set, 21 cells


def measured(command: list[str], folder: Path, limit: float) -> tuple[float, float, str]:
    """CPU seconds, peak memory in MB and output of a command. Raises CalledProcessError, TimeoutExpired."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    timed = [sys.executable, "-c", CHILD, *command]
    done = subprocess.run(
        timed, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-3000:]}")
    kilobytes, seconds = map(float, done.stdout.split()[-2:])
    return seconds, kilobytes / 1024, done.stdout


# Another process, so that the peak is that of the command alone.
CHILD = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
sys.exit(status)
"""


def plan(runs: int, folder: Path, limit: float) -> str:
    """A row: jobs, seconds and memory of planning."""
    seeds = list(range(-(-runs // PER_SEED)))
    (folder / "study.yaml").write_text(f"seeds: {seeds}\n")
    command = [sys.executable, "-m", "snakemake", "--configfile", "study.yaml", "-n", "--quiet", "rules"]
    seconds, memory, output = measured([*command, "--", "all"], folder, limit)
    jobs = int(re.search(r"^total +(\d+)", output, re.M)[1])
    return f"| {len(seeds) * PER_SEED:,} | {jobs:,} | {seconds:.0f} | {memory:.0f} |"


def collect(runs: int, folder: Path, limit: float) -> str:
    """A row: seconds and memory of collecting as many metrics tables, and the size of what comes out."""
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    measured([sys.executable, "-c", MAKE, str(runs), str(parts)], ROOT / "src", limit)
    seconds, memory, _ = measured([sys.executable, "-c", COLLECT, str(parts)], ROOT / "src", limit)
    size = (parts.parent / "metrics.parquet").stat().st_size / 2**20
    shutil.rmtree(parts)
    return f"| {runs:,} | {runs * ROWS:,} | {seconds:.0f} | {memory:.0f} | {size:.0f} |"


ROWS = 300  # of a run's metrics in the default study, about
MAKE = f"""
import sys
import numpy as np
from unlearn import schema, tables
for run in range(int(sys.argv[1])):
    columns = dict.fromkeys(schema.METRICS.schema.names, [None] * {ROWS})
    columns |= {{k: [v] * {ROWS} for k, v in dict(arch="net", forget="f", method="cf", scope="all", seed=run).items()}}
    columns |= {{"metric": [f"metric{{i}}" for i in range({ROWS})], "value": np.random.default_rng(run).random({ROWS})}}
    columns |= {{"n": [100] * {ROWS}}}
    tables.write(schema.METRICS, f"{{sys.argv[2]}}/{{run}}.parquet", columns, {{}})
"""
COLLECT = """
import pathlib, sys
from unlearn.stages.collect import collect
folder = pathlib.Path(sys.argv[1])
collect("metrics", [str(p) for p in sorted(folder.iterdir())], str(folder.parent / "metrics.parquet"))
"""


def main(planned: list[int], collected: list[int], folder: Path, limit: float) -> None:
    folder.mkdir(parents=True)
    for part in PARTS:
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, folder / part)
    print("| runs | jobs | plan, CPU s | plan, MB |\n|---:|---:|---:|---:|")
    for runs in planned:
        print(plan(runs, folder, limit), flush=True)
    print("\n| runs | rows | collect, CPU s | collect, MB | table, MB |\n|---:|---:|---:|---:|---:|")
    for runs in collected:
        print(collect(runs, folder, limit), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", type=int, nargs="*", default=[1000, 5000], help="numbers of runs")
    parser.add_argument("--collect", type=int, nargs="*", default=[1000, 5000, 20000], help="numbers of runs")
    parser.add_argument("--limit", type=float, default=600, help="seconds that one of them may take")
    parser.add_argument("--folder", type=Path, default=Path("build/scale"), help="must not exist yet")
    given = parser.parse_args()
    main(given.plan, given.collect, given.folder.resolve(), given.limit)
