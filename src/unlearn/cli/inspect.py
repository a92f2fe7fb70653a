"""``unlearn inspect``: what a study is about to do, before anything is trained."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unlearn.api.data import listed
from unlearn.cli import look, plan, studies
from unlearn.cli.said import said, shown
from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.schema.composition import COMPOSITION
from unlearn.stages.dataset import dataset
from unlearn.stages.layers import LayersSettings, held_by_all
from unlearn.stages.split import split


def inspect(overlays: Sequence[str]) -> Iterator[str]:
    """Lines on data, forget sets, models, jobs and time. Nothing is written, but into a temporary folder.

    What an overlay lacks (files, plug-ins, keys) is an error, as for Snakemake: ConfigError, DataError, SplitError,
    ModelError or PlanError.
    """
    study = studies.read(overlays, results="results")
    results = Path("results", study.config["study"])
    yield f"study {study.config['study']}, results in {results}/"
    with tempfile.TemporaryDirectory() as folder:
        table, lines = _dataset(study, results, folder)
        yield from lines
        yield from look.copies(table)
        for forget in study.config["forgets"]:
            yield from _split(study, table, forget, folder)
        with said() as log:
            rows = list(held_by_all(table, LayersSettings(**study.layers_settings()), "cpu"))
    yield from shown([line for line in log if line.startswith("warning")])
    for row in rows:
        share = f"{row['parameter_share']:.1%}"
        yield f"{row['arch']}, {row['scope']}: {row['layers']} layers, {row['parameters']} weights ({share})"
    yield from _runs(study)
    planned = plan.jobs(overlays)
    if not planned:
        yield "jobs: none, all results are there"
        return
    yield f"jobs: {sum(planned.values())} ({', '.join(f'{rule} {count}' for rule, count in planned.items())})"
    yield plan.estimate(planned, plan.costs(study, Path("results")))


def _dataset(study: Study, results: Path, folder: str) -> tuple[str, list[str]]:
    """The table of the data set, from the results if it is there and of the present settings, and lines on it."""
    made, settings = results / "dataset.parquet", study.dataset_settings()
    if made.is_file() and tables.metadata(made)["settings"] == settings:
        found = tables.metadata(made)
        return str(made), [f"data: {made}, {len(found['classes'])} classes, images of shape {tuple(found['shape'])}"]
    out = f"{folder}/dataset.parquet"
    with said() as log:
        dataset(out, settings)
    source = ", ".join(f"{key} {value}" for key, value in study.dataset["source"].items())
    return out, [f"data: {source}", *shown(log)]


def _split(study: Study, table: str, forget: str, folder: str) -> Iterator[str]:
    """What a forget set is made of."""
    composition = f"{folder}/composition.parquet"
    with said() as log:
        split(table, f"{folder}/split.parquet", forget, study.split_settings(forget), composition)
    yield from shown(log)
    rows: list[dict[str, Any]] = tables.read(COMPOSITION, composition).to_pylist()
    groups = [row for row in rows if row["by"] not in ("all", "copies of")]
    whole = [f"{row['by']} {row['value']}" for row in groups if row["forgotten"] and not row["retained"]]
    if whole:
        yield f"{forget}: forgotten whole: {listed(whole)}"


def _runs(study: Study) -> Iterator[str]:
    c = study.config
    yield (
        f"runs: {len(study.runs)} ({len(c['archs'])} architectures, {len(c['forgets'])} forget sets, "
        f"{len(study.methods)} methods with the controls, {len(c['scopes'])} scopes, {len(c['seeds'])} seeds)"
    )
    per = Counter(run.method for run in study.runs)
    yield f"  of each method: {', '.join(f'{method} {count}' for method, count in per.items())}"
    if study.tunings:
        yield f"  tuning of {len(study.tunings)} methods, with a seed of its own"
    if study.shadows:
        yield f"  {len(study.shadows)} shadow models of each architecture, method and scope"
