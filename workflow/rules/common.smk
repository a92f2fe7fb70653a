"""The config, the checked study, code fingerprints, and what rules need to look up in them."""

import functools
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

ROOT = Path(workflow.basedir)
# Neither here nor in jobs is a file json.py or timm.py beside the Snakefile or in the user's folder the library.
sys.path[:] = [f"{ROOT}/src", *(path for path in sys.path if path != str(ROOT))]
os.environ.update(PYTHONPATH=f"{ROOT}/src", PYTHONSAFEPATH="1")
min_version("9.19")

from unlearn.config import contracts, scope_grammar, strict_yaml
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.fingerprint import Sources
from unlearn.io.catalogue import TABLES
from unlearn.run import ALL, CONTROLS, PRETRAINING, REFERENCE, RETRAIN, Run
from unlearn.runtime import launcher

# Before Snakemake reads it, whose message names neither the file nor the line.
try:
    strict_yaml.read(os.path.relpath(ROOT / "config.yaml"))
except ConfigError as error:
    raise WorkflowError(str(error))


configfile: os.path.relpath(ROOT / "config.yaml")


# Those of the command line come first there, but win over the Snakefile's.
OVERLAYS = list(workflow.overwrite_configfiles)
FILES = [*(f for f in workflow.configfiles if f not in OVERLAYS), *OVERLAYS]

try:
    STUDY = Study(config, FILES, results="results")
except ConfigError as error:
    raise WorkflowError(str(error))

RESULTS, LOGS = f"results/{STUDY.config['study']}", f"logs/{STUDY.config['study']}"
# With the defaults, and with what a job looks at before it trains: no params, since it is no part of a result.
config.update(
    STUDY.config,
    layers={"table": f"{RESULTS}/layers.parquet", "settings": STUDY.layers_settings()},
)
TUNING_SEED = STUDY.config["settings"]["tuning"]["seed"]
SHADOW_SEED = STUDY.config["settings"]["ulira"]["seed"]
COLLECTED = [name for name, table in TABLES.items() if table.whole == "collected"]
PRETRAINED = "<results>/pretrained/{arch}/seed{seed}"
RUN = "<results>/runs/{arch}/{forget}/{method}-{scope}/seed{seed}"
RUN_LOG = "<logs>/{arch}/{forget}/{method}-{scope}/seed{seed}"
SHADOW = "<results>/shadows/{shadow}"
SHADOW_LOG = "<logs>/shadows/{shadow}"

# Jobs on this machine fork from processes that have the libraries loaded, jobs on a cluster's nodes do not.
os.environ.pop(launcher.OWNER, None)
if workflow.is_main_process:
    launcher.offer()


def measured(table):
    """Whether a metric of the study reads a table that is made for it alone."""
    declared = (contracts.declaration("metrics", m) for m in STUDY.config["metrics"])
    return any(table in each.constants.get("NEEDS", ()) for each in declared)


def needed(figure):
    """The study-wide tables that a figure reads."""
    return contracts.declaration("figures", figure).constants["NEEDS"]


def roots():
    """Rule, or rule/name -> the modules where the code it runs begins: the stage, and what it loads by name."""
    config = STUDY.config
    loaded = {
        "dataset": [f"data.{STUDY.dataset['source']['name']}"],
        "measure": [f"metrics.{name}" for name in config["metrics"]],
        "radii": ["attacks.pgd", "attacks.pgd_l2"] if STUDY.calibration else [],
        **{
            f"figure/{name}": [f"io.schema.{table}" for table in needed(name)]
            for name in config["figures"]
        },
    }
    by_name = {
        "unlearn": ("methods", STUDY.methods),
        "shadow": ("methods", STUDY.methods),
        "tune": ("methods", sorted({run.method for run in STUDY.tunings})),
        "attack": ("attacks", config["attacks"]),
        "figure": ("figures", config["figures"]),
        "collect": ("io.schema", COLLECTED),
    }
    modules = {}
    for stage in (
        path.stem for path in (ROOT / "src/unlearn/stages").glob("[a-z]*.py")
    ):
        kind, names = by_name.get(stage, ("", []))
        rules = {f"{stage}/{name}": [f"{kind}.{name}"] for name in names}
        for rule, own in (rules if kind else {stage: []}).items():
            paths = [f"stages.{stage}", *own, *loaded.get(rule, [])]
            modules[rule] = [f"unlearn.{path}" for path in paths]
    return modules


CODE_ROOTS = roots()
SOURCES = Sources()


@functools.cache
def fingerprint(name):
    """The fingerprint of all the code that makes the results of a rule, or rule/name."""
    return SOURCES.digest(*CODE_ROOTS[name])


# A job on a cluster needs its own alone.
if workflow.is_main_process:
    try:
        for name in CODE_ROOTS:
            fingerprint(name)
    except SyntaxError as error:
        raise WorkflowError(str(error))


wildcard_constraints:
    arch="|".join(map(re.escape, STUDY.config["archs"])),
    forget="|".join(map(re.escape, STUDY.config["forgets"])),
    method="|".join(map(re.escape, [*STUDY.methods, *STUDY.external])),
    scope=scope_grammar.pattern(),
    attack="|".join(map(re.escape, STUDY.config["attacks"])),
    figure="|".join(map(re.escape, STUDY.config["figures"])),
    seed="[0-9]+",
    shadow="[0-9]+",


def code(rule):
    """Params: the fingerprint of a rule, whose name may hold a wildcard ("attack/{attack}")."""
    return lambda wildcards: fingerprint(rule.format(**wildcards))


def settings(kind, *names):
    """Params: the study's settings of a kind for the named wildcards, as one sorted mapping."""
    return lambda wildcards: getattr(STUDY, f"{kind}_settings")(
        *(wildcards[name] for name in names)
    )


def sources(kind, *names):
    """Params: the files and folders that these settings name, which the job's record describes."""
    return lambda wildcards: getattr(STUDY, f"{kind}_sources")(
        *(wildcards[name] for name in names)
    )


def one_of(names):
    """A wildcard constraint, which nothing satisfies where there are no names."""
    return "|".join(map(re.escape, map(str, names))) or "(?!)"


def originals(wildcards):
    """Params: the user's weights in place of pretraining."""
    return STUDY.original(wildcards.arch, int(wildcards.seed))


def made_elsewhere(wildcards):
    """Params: the user's weights in place of a run's job."""
    keys = ("arch", "forget", "method", "scope", "seed")
    own = Run(**{key: wildcards[key] for key in keys})
    return STUDY.forgotten(own)


def named(wildcard):
    """Params: the value of a wildcard."""
    return lambda wildcards: wildcards[wildcard]


def run_of(offset=0, **given):
    """Params: the run that a job belongs to, for the columns of its tables: its wildcards, or what is ``given`` in
    their place. ``offset`` is added to the seed."""
    keys = ("arch", "forget", "method", "scope", "seed")
    texts = {key: given.get(key, f"{{{key}}}") for key in keys}

    def identity(wildcards):
        found = {key: text.format(**wildcards) for key, text in texts.items()}
        return {**found, "seed": int(found["seed"]) + offset}

    return identity


def of_run(run, file):
    """The path of a file of a run."""
    return f"{RUN.format(**vars(run))}/{file}"


def starting(weights):
    """Input: the pretrained model, which exact retraining of all layers does not need."""

    def original(wildcards):
        if (wildcards.method, wildcards.scope) == REFERENCE:
            return {}
        return {"original": weights.format(**wildcards)}

    return original


def chosen_settings(wildcards):
    """The table that chose this method's settings, where methods are tuned; for shadows the study's only one."""
    if STUDY.config["tune"] and wildcards.method not in CONTROLS:
        forget = wildcards.get("forget", STUDY.config["forgets"][0])
        return {
            "tuning": f"<results>/tuning/{wildcards.arch}/{forget}/{wildcards.method}.parquet"
        }
    return {}


def references(wildcards):
    """The tables that only some metrics need, what exact retraining and the original predict, and the metrics of exact
    retraining, but for itself."""
    keys = ("arch", "forget", "method", "scope", "seed")
    own = Run(**{key: wildcards[key] for key in keys})
    controls = {m: replace(own, method=m, scope=ALL) for m in CONTROLS}
    tables = {
        f"{method}_predictions": of_run(run, "predictions.parquet")
        for method, run in controls.items()
    }
    if measured("features"):
        tables["features"] = of_run(own, "features.parquet")
        for method, run in controls.items():
            tables[f"{method}_features"] = of_run(run, "features.parquet")
    if measured("relearning"):
        tables["relearning"] = of_run(own, "relearning.parquet")
    if (own.method, own.scope) != REFERENCE:
        tables["retrain_metrics"] = of_run(controls[RETRAIN], "metrics.parquet")
    return tables


def collected(wildcards):
    """The runs' tables that make up a table of the whole study."""
    if wildcards.table in ("metrics", "failures"):
        return [of_run(run, "metrics.parquet") for run in STUDY.runs]
    if wildcards.table == "composition":
        return collect(
            "<results>/splits/{forget}+composition.parquet",
            forget=STUDY.config["forgets"],
        )
    if wildcards.table == "trajectory":
        return collect(
            f"{PRETRAINED}/trajectory.parquet",
            arch=STUDY.config["archs"],
            seed=STUDY.config["seeds"],
        )
    if wildcards.table == "ulira":
        return [
            f"<results>/ulira/{arch}/{method}-{scope}.parquet"
            for arch in STUDY.config["archs"]
            for method, scope in STUDY.cells
        ]
    return [
        f"<results>/tuning/{run.arch}/{run.forget}/{run.method}.parquet"
        for run in STUDY.tunings
    ]


def figured(wildcards):
    """The study-wide tables that a figure reads, by name, and the radii, of which every figure knows the headline."""
    tables = {*needed(wildcards.figure), "radii"}
    return {table: f"<results>/{table}.parquet" for table in sorted(tables)}


def calibration(_):
    """The original models, and the data set, on which radii are calibrated; none where all are given."""
    if not STUDY.calibration:
        return {}
    return {
        "dataset": "<results>/dataset.parquet",
        "originals": [
            f"{PRETRAINED.format(arch=arch, seed=seed)}/model.safetensors"
            for arch, seed in STUDY.calibration
        ],
    }
