"""The jobs that a study has before it, and the time that they may take."""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from unlearn.cli import studies
from unlearn.config.study import Study
from unlearn.provenance import records
from unlearn.run import RETRAIN


class PlanError(RuntimeError):
    """Snakemake does not plan the study; the message ends with what it said."""


class Costs(NamedTuple):
    """What earlier jobs took: rule → seconds of each; the ``studies`` that they are of, and the ``devices``."""

    seconds: Mapping[str, Sequence[float]]
    studies: set[str]
    devices: set[str]


def jobs(overlays: Sequence[str]) -> dict[str, int]:
    """Rule → number of jobs that are to run, by a dry run of Snakemake in the current folder. Raises PlanError."""
    command = [sys.executable, "-m", "snakemake", "-s", str(studies.base().parent / "Snakefile"), "-n"]
    done = subprocess.run([*command, "--configfile", *overlays], capture_output=True, text=True)
    if done.returncode:
        raise PlanError(f"snakemake -n: {_refusal(done.stdout) or _refusal(done.stderr) or 'no reason given'}")
    stats = re.search(r"^Job stats:\n.*\n[- ]+\n((?:\w+ +\d+\n)+)", done.stdout, re.M)
    found = dict(line.split() for line in stats[1].splitlines()) if stats else {}
    return {rule: int(count) for rule, count in found.items() if rule not in ("all", "total")}


def _refusal(printed: str) -> str:
    """What Snakemake says of an error, which a dry run prints on stdout, without the places in the sources."""
    said = re.search(r"^\w*(?:Error|Exception)\b.*\n((?:.*\n)*)", f"{printed}\n", re.M)
    lines = said[1].splitlines() if said else []
    return " ".join(line.strip() for line in lines if not line.startswith("  File ")).strip()


def costs(study: Study, results: Path) -> Costs:
    """The seconds of jobs on the study's data set and, where they have one, on an architecture of its model and recipe.

    Jobs of other data or models would say nothing of this study.
    """
    seconds, used, devices = defaultdict(list), set(), set()
    for folder in sorted(path for path in results.glob("*") if path.is_dir()):
        dataset = _record(records.record_of(folder / "dataset.parquet"))
        if not dataset or dataset["settings"] != study.dataset_settings():
            continue
        archs = {arch for arch in study.config["archs"] if _same(study, arch, folder)}
        for path in folder.rglob(f"{records.FOLDER}/*.json"):
            record = _record(path)
            run = record["arguments"].get("run") if record else None
            if record and "seconds" in record and (not run or run["arch"] in archs):
                seconds[_rule(record)].append(record["seconds"])
                used.add(str(folder))
                devices |= {record["device"]} - {None}
    return Costs(seconds, used, devices)


def estimate(planned: Mapping[str, int], known: Costs) -> str:
    """A line: the time of the jobs one after another, by the mean of earlier jobs of each rule."""
    unknown = [f"{rule} {count}" for rule, count in planned.items() if rule not in known.seconds]
    rest = {rule: count for rule, count in planned.items() if rule in known.seconds}
    if not rest:
        return "time: not known (no earlier results of these data and models)"
    total = sum(count * sum(known.seconds[rule]) / len(known.seconds[rule]) for rule, count in rest.items())
    of = f"{sum(len(known.seconds[rule]) for rule in rest)} jobs of {', '.join(sorted(known.studies))}"
    device = f" ({', '.join(sorted(known.devices))})" if known.devices else ""
    more = f"; not known for {', '.join(unknown)}" if unknown else ""
    return f"time: {_duration(total)} one job after another, by the means of {of}{device}{more}"


def _rule(record: Mapping[str, Any]) -> str:
    """The rule of a job, by its stage; of those that share one, by its run."""
    stage = record["stage"].rpartition(".")[2]
    method = (record["arguments"].get("run") or {}).get("method")
    kinds = {
        ("unlearn", RETRAIN): RETRAIN,
        ("adopt", "pretrain"): "adopt_original",
        ("adopt", RETRAIN): "adopt_retrained",
    }
    return kinds.get((stage, method), "adopt_external" if stage == "adopt" else stage)


def _same(study: Study, arch: str, folder: Path) -> bool:
    """Whether a study of that folder trained this architecture by this recipe."""
    settings = study.training_settings(arch)
    found: Iterator[Any] = map(_record, folder.glob(f"pretrained/{arch}/seed*/{records.FOLDER}/model.safetensors.json"))
    return any(
        record and record["settings"] in (settings, study.adoption_settings(arch, "pretrain")) for record in found
    )


def _record(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, records.RecordError):
        return records.read(path)
    return None


def _duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> _duration(40), _duration(400), _duration(40000)
    ('40 s', '7 min', '11.1 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
