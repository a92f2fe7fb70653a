"""The config, the checked study, code fingerprints, and what rules need to look up in them."""

import functools
import os
import re
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))
os.environ.update(PYTHONPATH=f"{ROOT}/src")

from unlearn.config import strict_yaml
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.fingerprint import Sources
from unlearn.io.catalogue import TABLES
from unlearn.run import CONTROLS, REFERENCE, Run
from unlearn.runtime import fork_server

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())

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
    STUDY = Study(config, SCHEMA, FILES)
except ConfigError as error:
    raise WorkflowError(str(error))

RESULTS, LOGS = f"results/{STUDY.config['study']}", f"logs/{STUDY.config['study']}"
TUNING_SEED = STUDY.config["settings"]["tuning"]["seed"]
SHADOW_SEED = STUDY.config["settings"]["ulira"]["seed"]
COLLECTED = [name for name, table in TABLES.items() if table.whole == "collected"]
ABSENT = {"tuning": not STUDY.tunings, "ulira": not STUDY.shadows}
STUDY_TABLES = [
    name for name, table in TABLES.items() if table.whole and not ABSENT.get(name)
]
RUN = "<results>/runs/{arch}/{forget}/{method}-{scope}/seed{seed}"
RUN_LOG = "<logs>/{arch}/{forget}/{method}-{scope}/seed{seed}"
SHADOW = "<results>/shadows/{shadow}"
SHADOW_LOG = "<logs>/shadows/{shadow}"

# Jobs on this machine fork from processes that have the libraries loaded.
if workflow.is_main_process:
    os.environ[fork_server.OWNER] = str(os.getpid())
else:
    os.environ.pop(fork_server.OWNER, None)


def roots():
    """Rule, or rule/name -> the modules where the code it runs begins: the stage, and what it loads by name."""
    config = STUDY.config
    loaded = {
        "dataset": [f"data.{STUDY.dataset['source']['name']}"],
        "measure": [f"metrics.{name}" for name in config["metrics"]],
        "radii": ["attacks.pgd", "attacks.pgd_l2"] if STUDY.calibration else [],
    }
    by_name = {
        "unlearn": ("methods", STUDY.methods),
        "shadow": ("methods", STUDY.methods),
        "tune": ("methods", sorted({run.method for run in STUDY.tunings})),
        "attack": ("attacks", config["attacks"]),
        "figure": ("figures", config["figures"]),
        "collect": ("io.schema", COLLECTED),
    }
    found = {}
    for path in sorted((ROOT / "src/unlearn/stages").glob("[a-z]*.py")):
        stage, package = path.stem, f"unlearn.stages.{path.stem}"
        if stage in by_name:
            kind, names = by_name[stage]
            for name in names:
                found[f"{stage}/{name}"] = [package, f"unlearn.{kind}.{name}"]
        else:
            found[stage] = [package, *(f"unlearn.{m}" for m in loaded.get(stage, []))]
    return found


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
    method="|".join(map(re.escape, STUDY.methods)),
    scope=r"first|intermediate|last|intermediate[+]last|all|groups\d+(-\d+)?",
    attack="|".join(map(re.escape, STUDY.config["attacks"])),
    figure="|".join(map(re.escape, STUDY.config["figures"])),
    seed=r"\d+",
    shadow=r"\d+",


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


def named(wildcard):
    """Params: the value of a wildcard."""
    return lambda wildcards: wildcards[wildcard]


def identity(wildcards):
    """Params: the run's identity, for the columns of its tables."""
    keys = ("arch", "forget", "method", "scope")
    return {**{key: wildcards[key] for key in keys}, "seed": int(wildcards.seed)}


def pretrained_identity(wildcards):
    """Params: the identity of the original model, which forgets nothing."""
    return {
        "arch": wildcards.arch,
        "forget": "none",
        "method": "pretrain",
        "scope": "all",
        "seed": int(wildcards.seed),
    }


def tuning_identity(wildcards):
    """Params: the identity of the run that a method is tuned on."""
    keys = ("arch", "forget", "method")
    return {
        **{key: wildcards[key] for key in keys},
        "scope": "all",
        "seed": TUNING_SEED,
    }


def half_identity(wildcards):
    """Params: the identity of a shadow's pretraining, which is exact retraining without the other half."""
    return {
        "arch": wildcards.arch,
        "forget": f"half{wildcards.shadow}",
        "method": "retrain",
        "scope": "all",
        "seed": SHADOW_SEED + int(wildcards.shadow),
    }


def shadow_identity(wildcards):
    """Params: the identity of the run in which a shadow unlearns."""
    return {
        **{key: wildcards[key] for key in ("arch", "method", "scope")},
        "forget": f"shadow{wildcards.shadow}",
        "seed": SHADOW_SEED + int(wildcards.shadow),
    }


def of_run(run, file):
    """The path of a file of a run."""
    return f"{RUN.format(**vars(run))}/{file}"


def original_weights(wildcards):
    """The pretrained model, which exact retraining of all layers does not need."""
    if (wildcards.method, wildcards.scope) == REFERENCE:
        return {}
    return {
        "original": f"<results>/pretrained/{wildcards.arch}/seed{wildcards.seed}/model.safetensors"
    }


def shadow_weights(wildcards):
    """The shadow's pretrained model, which exact retraining of all layers does not need."""
    if (wildcards.method, wildcards.scope) == REFERENCE:
        return {}
    return {"original": f"{SHADOW}/{wildcards.arch}/model.safetensors"}


def chosen_settings(wildcards):
    """The table that chose this method's settings, where methods are tuned; for shadows the study's only one."""
    if STUDY.config["tune"] and wildcards.method not in CONTROLS:
        forget = wildcards.get("forget", STUDY.config["forgets"][0])
        return {
            "tuning": f"<results>/tuning/{wildcards.arch}/{forget}/{wildcards.method}.parquet"
        }
    return {}


def references(wildcards):
    """What exact retraining and the original predict, and the metrics of exact retraining, but for itself."""
    group = {"arch": wildcards.arch, "forget": wildcards.forget, "seed": wildcards.seed}
    retrain, original = (
        Run(method=method, scope="all", **group) for method in ("retrain", "original")
    )
    found = {
        "retrain_predictions": of_run(retrain, "predictions.parquet"),
        "original_predictions": of_run(original, "predictions.parquet"),
    }
    if (wildcards.method, wildcards.scope) != REFERENCE:
        found["retrain_metrics"] = of_run(retrain, "metrics.parquet")
    return found


def collected(wildcards):
    """The runs' tables that make up a table of the whole study."""
    if wildcards.table in ("metrics", "failures"):
        return [of_run(run, "metrics.parquet") for run in STUDY.runs]
    if wildcards.table == "trajectory":
        return collect(
            "<results>/pretrained/{arch}/seed{seed}/trajectory.parquet",
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


def calibration(_):
    """The original models, and the data set, on which radii are calibrated; none where all are given."""
    if not STUDY.calibration:
        return {}
    return {
        "dataset": "<results>/dataset.parquet",
        "originals": [
            f"<results>/pretrained/{arch}/seed{seed}/model.safetensors"
            for arch, seed in STUDY.calibration
        ],
    }
