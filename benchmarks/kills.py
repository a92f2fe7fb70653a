"""Kills a small study at random moments until it is done, and compares every result with that of an undisturbed run.

`python benchmarks/kills.py --kills 50 --seed 0`: each kill is SIGINT, SIGTERM or SIGKILL to a job, to Snakemake or to
its whole process group, at a random moment; then comes what the README says: the same command again, after
`snakemake --unlock` where Snakemake asks for it. When a study is done it is compared and begun anew. Linux.
"""

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import project
import psutil
from safetensors.numpy import load_file

STUDY = """
seeds: [0]
archs: [net]
methods: [cf, salun]
scopes: [last, all]
attacks: [pgd, cascade]
checkpoint_seconds: 0.0         # after every step and every batch
settings:
  archs:
    net:
      label: tiny
      model: resnet18
      args: {layers: [1, 1, 1, 1], channels: [8, 8, 16, 16]}
      stem: cifar
      train: {epochs: 3, lr: 0.05, batch_size: 64}
      methods: {cf: {epochs: 2, batch_size: 64}, salun: {epochs: 2, batch_size: 64}}
  attacks: {pgd: {steps: 3}, cascade: {steps: 3, target_steps: 2}}
  follow: 1
  samples: {test: 300, retain: 20, forget: 20}
  analysis: {resamples: 100}
"""
SIGNALS = ("SIGINT", "SIGTERM", "SIGKILL")
TARGETS = ("job", "snakemake", "group")
TIMED = ("seconds", "cpu_seconds")  # columns, and parts of the names of metrics, that no two runs share
TIMED_FILES = ("cost", "main")
LONGEST = 20.0  # seconds to the next kill


class Study:
    """A copy of the project with the small study in it. What its runs put below TMPDIR lies in ``temporary``."""

    def __init__(self, root: Path, temporary: Path):
        self.root, self.temporary = root, temporary
        project.copy(root, STUDY)

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--configfile", project.OVERLAY, "--cores", "2", *arguments]
        with open(self.root / "output", "wb") as output:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env={**project.environment(), "TMPDIR": str(self.temporary)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> int:
        return self.start(*arguments).wait()

    @property
    def output(self) -> str:
        return (self.root / "output").read_text()

    @property
    def locked(self) -> bool:
        """Whether a killed Snakemake has left its lock."""
        return any((self.root / ".snakemake/locks").glob("*"))

    def finish(self) -> None:
        """The documented command, until nobody interferes any more. Raises RuntimeError if it fails."""
        if self.locked:
            self.run("--unlock")
        if self.run("all"):
            raise RuntimeError(self.output)

    def clear(self) -> None:
        for name in ("results", "logs", ".snakemake"):
            shutil.rmtree(self.root / name, ignore_errors=True)


def jobs(main: psutil.Process) -> list[psutil.Process]:
    """Processes that run a job: scripts, and children of Snakemake's fork servers."""
    found = [p for p in main.children(recursive=True) if any(".snakemake/scripts" in part for part in p.cmdline())]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if "unlearn.runtime.fork_server" in line and line[-1] == str(main.pid):
                found += process.children()
    return found


def kill(running: subprocess.Popen, chance: random.Random) -> str:
    """Send a signal to one of the targets. Returns what was done."""
    name, target = chance.choice(SIGNALS), chance.choice(TARGETS)
    number = getattr(signal, name)
    if target == "job":
        with contextlib.suppress(psutil.Error):
            if found := jobs(psutil.Process(running.pid)):
                os.kill(chance.choice(found).pid, number)
                return f"{name} to a job"
        return "no job was running"
    (os.killpg if target == "group" else os.kill)(running.pid, number)
    return f"{name} to {'Snakemake' if target == 'snakemake' else 'its group'}"


def disturbed(study: Study, kills: int, chance: random.Random) -> list[str]:
    """Run the study to its end under at most ``kills`` kills. Returns what was done."""
    done: list[str] = []
    while len(done) < kills:
        running, moment = study.start("all"), chance.uniform(2.0, LONGEST)
        with contextlib.suppress(subprocess.TimeoutExpired):
            if running.wait(timeout=moment) == 0:
                return done
            if not study.locked:
                raise RuntimeError(study.output)
            study.run("--unlock")
            continue
        what = kill(running, chance)
        if not what.startswith("no"):
            done.append(what)
            print(f"{len(done)}: {what} after {moment:.1f} s", flush=True)
        if what.endswith("a job") or what.startswith("no"):  # Snakemake goes on; the next kill comes to it
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(timeout=chance.uniform(2.0, LONGEST))
            if running.poll() is None:
                running.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(timeout=120)
        if running.poll() is None:
            raise RuntimeError(f"after {what} Snakemake did not end: {study.output[-2000:]}")
    study.finish()
    return done


def left_behind(temporary: Path) -> list[str]:
    """Folders of fork servers that have outlived their Snakemake for five seconds."""
    deadline = time.monotonic() + 5
    while (found := list(temporary.glob("unlearn-*-*"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"left over: {path}" for path in found]


def differences(one: Path, other: Path) -> list[str]:
    """Results that differ in anything but times, or that only one folder holds, and what was left lying about."""
    names = [{str(p.relative_to(root)) for p in files(root)} for root in (one, other)]
    found = [f"only in one: {name}" for name in sorted(names[0] ^ names[1])]
    found += [f"left over: {p}" for p in other.rglob("*") if p.suffix in (".part", ".progress", ".lock")]
    for name in sorted(names[0] & names[1]):
        a, b = one / name, other / name
        if not SAME.get(a.suffix, lambda a, b: a.read_bytes() == b.read_bytes())(a, b):
            found.append(f"differs: {name}")
    return found


def files(root: Path) -> list[Path]:
    timed = lambda path: path.stem in TIMED_FILES  # noqa: E731
    return [p for p in root.rglob("*") if p.is_file() and ".made" not in p.parts and not timed(p)]


def same_weights(a: Path, b: Path) -> bool:
    one, other = load_file(a), load_file(b)
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def same_table(a: Path, b: Path) -> bool:
    return untimed(pd.read_parquet(a)).equals(untimed(pd.read_parquet(b)))


def untimed(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.drop(columns=[c for c in TIMED if c in frame])
    for column in {"metric", "x", "y"} & set(frame):
        frame = frame[~frame[column].str.contains("seconds")]
    return frame.reset_index(drop=True)


def same_text(a: Path, b: Path) -> bool:
    """But for lines on times: a verdict weighs them."""
    one, other = (
        [line for line in p.read_text().splitlines() if "seconds" not in line and "cheaper" not in line] for p in (a, b)
    )
    return one == other


SAME = {".safetensors": same_weights, ".parquet": same_table, ".md": same_text}


def main(kills: int, seed: int, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs, and theirs, ignore it
    chance, started = random.Random(seed), time.monotonic()
    folder.mkdir(parents=True)
    temporary = Path(tempfile.mkdtemp(prefix="kills-", dir="/tmp"))  # a fork server needs a short path
    study, reference = Study(folder, temporary), folder / "reference"
    study.finish()
    shutil.move(study.root / "results", reference)
    counts: collections.Counter[str] = collections.Counter()
    studies = 0
    while counts.total() < kills:
        study.clear()
        counts.update(disturbed(study, kills - counts.total(), chance))
        studies += 1
        if found := differences(reference, study.root / "results") + left_behind(temporary):
            sys.exit(f"after {counts.total()} kills, seed {seed}:\n" + "\n".join(found))
        print(f"study {studies} is the same, after {counts.total()} kills", flush=True)
    shutil.rmtree(temporary)
    print(f"\nseed {seed}, {counts.total()} kills over {studies} studies, {time.monotonic() - started:.0f} s\n")
    print("| kill | times |\n|---|---:|")
    print("\n".join(f"| {what} | {times} |" for what, times in sorted(counts.items())))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("build/kills"), help="must not exist yet")
    given = parser.parse_args()
    main(given.kills, given.seed, given.folder.resolve())
