"""How many jobs of the finished default study each of the last commits would have made again.

`PYTHONPATH=src python benchmarks/replay.py --commits 26`: each commit that touches code is compared with its parent.
Both trees are planned by their own workflow, which gives every job with its inputs and params. A job is made again if
the parent has no job of these outputs, if its inputs or params differ, or if a job that it depends on is made again.

The columns differ in the fingerprint among the params: `own` takes the one that the commit computed itself, `today` the
rule of the present checkout, applied to the commit's own files. About 8 CPU seconds a commit.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from unlearn.fingerprint import Sources

CODE = ("src", "workflow", "Snakefile", "config.yaml")
Jobs = dict[str, dict[str, Any]]  # by their outputs


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def jobs(commit: str, folder: Path) -> Jobs:
    """The jobs of a commit's default study. The param ``code`` is split: ``own``, the fingerprint as the commit
    computes it, and ``today``, by the present rule. Raises CalledProcessError if it cannot be planned."""
    folder.mkdir()
    packed = subprocess.run(["git", "archive", commit], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
    plan = [sys.executable, Path(__file__).with_name("jobs.py"), "-n", "all"]
    subprocess.run(plan, cwd=folder, capture_output=True, check=True)
    found = json.loads((folder / "jobs.json").read_text())
    sources = Sources(folder / "src/unlearn")
    for job in found:
        own = job["params"].pop("code", "")
        job |= {"own": own, "today": sources.digest(*roots(own.split()[1:], folder)) if own else ""}
    return {" ".join(job["outputs"]): job for job in found}


def roots(names: list[str], folder: Path) -> list[str]:
    """The modules that a fingerprint starts from. Where it starts at a script, the stage that this calls."""
    scripts = {name: (folder / "workflow/scripts" / name).read_text() for name in names if name.endswith(".py")}
    stages = [stage for text in scripts.values() for stage in re.findall(r"unlearn\.stages\.\w+", text)]
    return [*dict.fromkeys(stages), *(name for name in names if name not in scripts)]


def remade(before: Jobs, after: Jobs, fingerprint: str = "params") -> set[str]:
    """The jobs of ``after``, by their outputs, that a study finished by ``before`` makes again."""
    looked_at = ("inputs", "params", fingerprint)
    changed = {o for o, job in after.items() if o not in before or any(job[k] != before[o][k] for k in looked_at)}
    makers = {name: outputs for outputs, job in after.items() for name in job["outputs"]}
    count = -1
    while len(changed) > count:
        count = len(changed)
        changed |= {o for o, job in after.items() if any(makers.get(name) in changed for name in job["inputs"])}
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=10)
    parser.add_argument("--end", default="HEAD", help="the last commit (HEAD)")
    given = parser.parse_args()
    commits = git("log", "--no-merges", "--format=%h %s", f"-{given.commits}", given.end, "--", *CODE).splitlines()
    known: dict[str, Jobs] = {}
    totals, everything = {"own": 0, "today": 0}, {"own": 0, "today": 0}
    print("| commit | jobs | own | today | |\n|---|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        for line in reversed(commits):
            commit, title = line.split(" ", 1)
            pair = [git("rev-parse", "--short", name).strip() for name in (f"{commit}^", commit)]
            for name in pair:
                known[name] = known.get(name) or jobs(name, Path(folder, name))
            counts = {rule: len(remade(*(known[name] for name in pair), rule)) for rule in totals}
            for rule, count in counts.items():
                totals[rule] += count
                everything[rule] += count == len(known[commit])
            print(f"| {commit} | {len(known[commit])} | {counts['own']} | {counts['today']} | {title} |", flush=True)
    print(f"| {len(commits)} commits | | {totals['own']} | {totals['today']} | in all |")
    print(f"| | | {everything['own']} | {everything['today']} | commits that remake everything |")


if __name__ == "__main__":
    main()
