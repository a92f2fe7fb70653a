"""What is planned again after an edit: exactly what the edit can change.

A finished study is planned once by Snakemake, which gives each job with its inputs and params. Most edits are then
compared with it by fingerprints and params alone. A dozen real plans hold this model to what Snakemake does.
"""

import contextlib
import copy
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from plans import (
    COMPOSITION,
    DATA,
    DEFAULT,
    GRID,
    LAYERS,
    WHOLE_RUN,
    Planned,
    analysis,
    end,
    everything,
    figures,
    of_runs,
    pretraining,
    remade,
    report,
    splits,
    with_code,
)

from unlearn.config.study import Study

pytestmark = pytest.mark.slow

PACKAGE = ROOT / "src/unlearn"
ARCH = {"label": "Net", "model": "resnet18", "args": {}, "stem": "cifar", "train": {"epochs": 1}, "methods": {}}
STUDY = {
    "seeds": [0],
    "archs": ["net"],
    "forgets": ["random10"],
    "methods": ["rl", "salun"],
    "scopes": ["last", "all"],
    "attacks": ["fgsm", "pgd"],
    "settings": {
        "archs": {"net": ARCH, "other": {**ARCH, "label": "Other"}},
        "methods": {"rl": {"lr": 0.01, "weight_decay": 0.02}},
    },
}
FIGURES, REPORT, ANALYSIS, END = figures(STUDY), report(STUDY), analysis(STUDY), end(STUDY)
MEASURE = of_runs(STUDY, "measure") | END
SALUN = of_runs(STUDY, *WHOLE_RUN, methods=["salun"]) | END
RL = of_runs(STUDY, *WHOLE_RUN, methods=["rl"]) | END
# All that compares with exact retraining is measured again with it, and all that starts from the original is not.
RETRAIN = of_runs(STUDY, *WHOLE_RUN, methods=["retrain"]) | MEASURE
ORIGINAL = of_runs(STUDY, *WHOLE_RUN, methods=["original"]) | MEASURE
STARTED = of_runs(STUDY, *WHOLE_RUN, methods=["original", "rl", "salun"]) | END  # from a pretrained model
FOLLOWED = {job for job in pretraining(STUDY) if not job.startswith("Pretrain")}
PROBED = FOLLOWED | of_runs(STUDY, "probe", "measure") | END
PREDICTED = of_runs(STUDY, "predict", "measure") | END
MODELS = pretraining(STUDY) | of_runs(STUDY, *WHOLE_RUN) | END
FGSM, PGD = ({j for j in of_runs(STUDY, "attack") if f" {name}:" in j} | MEASURE for name in ("fgsm", "pgd"))


def changed(**changes):
    """The study with some keys changed; "a.b" is a key in a key."""
    found = copy.deepcopy(STUDY)
    for key, value in changes.items():
        *path, last = key.split(".")
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    found = Planned(tmp_path_factory.mktemp("reruns"), STUDY)
    yield found
    found.close()


@pytest.fixture(scope="module")
def finished(study):
    """The jobs of the finished study, by their outputs."""
    found = study.plan()
    assert not any(job["planned"] for job in found.values())
    assert {job["message"] for job in found.values()} == everything(STUDY)
    return found


def after_code(study, finished, *files, **more):
    """The jobs that another statement in files of the package remakes, by their fingerprints."""
    with study.appended(*(f"src/unlearn/{file}" for file in files), **more):
        return remade(finished, with_code(finished, study.root / "src/unlearn"))


# --- what changes no result --------------------------------------------------------------------------

# What starts, serves, logs, locks, records, audits, checks or prints.
INERT = [
    *("cli/__init__.py", "__main__.py", "fingerprint.py", "io/catalogue.py"),
    *(f"config/{name}.py" for name in ("checks", "contracts", "schema", "strict_yaml", "study", "validation")),
    *(p.relative_to(PACKAGE).as_posix() for room in ("runtime", "provenance") for p in (PACKAGE / room).glob("*.py")),
]
RULES = ("audit", "common", "resources", "data", "models", "evaluation", "report", "ulira")


@pytest.mark.parametrize("file", INERT)
def test_a_statement_of_what_makes_no_result(study, finished, file):
    assert after_code(study, finished, file) == set()


def test_comments_and_docstrings(study, finished):
    files = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    assert after_code(study, finished, *files, text='\n# A remark.\n"""A text."""\n') == set()


def test_functions_that_the_study_does_not_use(study, finished):
    files = ("methods/cf.py", "attacks/square.py", "metrics/residual.py", "stages/tune.py", "analysis/ulira.py")
    assert after_code(study, finished, *files) == set()


def test_what_changes_no_result_plans_nothing(study):
    """All of it at once: times, prose, order of keys, rules, resources, scripts and all of INERT."""

    def turned(value):
        return {k: turned(value[k]) for k in reversed(value)} if isinstance(value, dict) else value

    edits = [f"src/unlearn/{file}" for file in INERT] + ["workflow/scripts/stage.py"]
    edits += [f"workflow/rules/{name}.smk" for name in RULES]
    resources, models, profile = (
        (study.root / file).read_text()
        for file in ("workflow/rules/resources.smk", "workflow/rules/models.smk", "profiles/default/profile.yaml")
    )
    message = 'message:\n        "Pretrain: '
    assert message in models
    assert "BASE_MB = 3000" in resources
    with (
        study.replaced("workflow/rules/resources.smk", resources.replace("BASE_MB = 3000", "BASE_MB = 5000")),
        study.replaced("workflow/rules/models.smk", models.replace(message, f"threads: 2\n    {message} again: ")),
        study.replaced("profiles/default/profile.yaml", f"{profile}\nretries: 2\n"),
        study.configured(yaml.safe_dump(turned({**STUDY, "device": "cpu"}), sort_keys=False)),
        study.appended(*edits),
    ):
        for path in study.root.rglob("*"):
            if path.is_file() and not {".snakemake", "results"} & {*path.parts}:
                path.touch()
        assert study.planned("all", "--cores", "7") == set()


# --- code --------------------------------------------------------------------------------------------

CODE = {
    "methods/salun.py": SALUN,
    "methods/rl.py": RL | SALUN,  # which share the relabelling
    "methods/retrain.py": RETRAIN,
    "methods/original.py": ORIGINAL,
    "attacks/fgsm.py": FGSM,
    "attacks/pgd.py": PGD,
    "data/digits.py": everything(STUDY) - GRID,
    "training/loop.py": MODELS,
    "training/context.py": MODELS,
    "models/cost_meter.py": MODELS,
    "stages/pretrain.py": pretraining(STUDY) | STARTED | MEASURE,
    "stages/unlearn.py": of_runs(STUDY, *WHOLE_RUN) | END,
    "stages/predict.py": FOLLOWED | PREDICTED,
    "stages/attack.py": of_runs(STUDY, "attack", "measure") | END,
    "stages/split.py": splits(STUDY) | COMPOSITION | of_runs(STUDY, *WHOLE_RUN) | END,
    "stages/measure.py": MEASURE,
    "stages/collect.py": {"Collect trajectory"} | COMPOSITION | END,
    "stages/table.py": {"Main table"},
    "evaluation/activations.py": PROBED,
    "evaluation/attack_search.py": GRID | of_runs(STUDY, "attack", "measure") | END,
    "analysis/gates.py": {"Gates"} | ANALYSIS,
    "analysis/comparisons.py": ANALYSIS,
    "reports/main_table.py": {"Main table"},
    "api/figures.py": REPORT,
    "io/tables.py": everything(STUDY),
    "models/classifier.py": everything(STUDY) - DATA - splits(STUDY) - COMPOSITION,
    **{f"metrics/{name}.py": MEASURE for name in DEFAULT["metrics"]},
    "metrics/accuracy.py": FOLLOWED | MEASURE,
    **{f"figures/{name}.py": {f"Figure: {name}"} for name in DEFAULT["figures"]},
}


@pytest.mark.parametrize(("file", "jobs"), CODE.items(), ids=CODE)
def test_a_statement_of_a_module(study, finished, file, jobs):
    assert after_code(study, finished, file) == jobs


TABLES = {
    "history": MODELS,
    "activations": of_runs(STUDY, "probe", "measure") | END,
    "trajectory": FOLLOWED | ANALYSIS,
    "failures": {"Collect failures", "Main table"},
    "correlations": ANALYSIS,
    "composition": splits(STUDY) | COMPOSITION | of_runs(STUDY, *WHOLE_RUN) | END,
    "shadow": set(),
}


@pytest.mark.parametrize(("table", "jobs"), TABLES.items(), ids=TABLES)
def test_the_declaration_of_a_table(study, finished, table, jobs):
    assert after_code(study, finished, f"io/schema/{table}.py") == jobs


@pytest.mark.parametrize(("file", "jobs"), [("methods/salun.py", SALUN), ("stages/table.py", {"Main table"})])
def test_snakemake_plans_what_fingerprints_say(study, file, jobs):
    with study.appended(f"src/unlearn/{file}"):
        assert study.planned("all") == jobs


# --- settings ----------------------------------------------------------------------------------------

# Rule → the study's method that gives its settings, and the wildcards that it takes.
SETTINGS = {
    "dataset": ("dataset",),
    "layers": ("layers",),
    "radii": ("radii",),
    "split": ("split", "forget"),
    "pretrain": ("training", "arch"),
    "retrain": ("training", "arch"),
    "unlearn": ("method", "arch", "method"),
    "probe": ("probe",),
    "features": ("features",),
    "follow": ("probe",),
    "attack": ("attack", "attack"),
    "gate": ("gate",),
    "analyse": ("analysis",),
    "figure": ("report",),
    "table": ("report",),
}


def with_settings(jobs, study):
    """The jobs with the settings of another study of the same jobs."""
    found = {}
    for outputs, job in jobs.items():
        params = dict(job["params"])
        if job["rule"] in SETTINGS:
            kind, *names = SETTINGS[job["rule"]]
            params["settings"] = getattr(study, f"{kind}_settings")(*(job["wildcards"][name] for name in names))
        found[outputs] = {**job, "params": params}
    return found


def study_of(overlay):
    def merged(below, above):
        if not isinstance(above, dict):
            return above
        return {**below, **{k: merged(below[k], v) if k in below else v for k, v in above.items()}}

    return Study(merged(copy.deepcopy(DEFAULT), overlay))


RADII = {"linf": {"eps": [0.1, 0.2], "headline": 0.1}}
ATTACKED = of_runs(STUDY, "attack", "measure") | END
CHANGES = {
    "nothing": ({}, set()),
    "a hyper-parameter": ({"settings.methods.rl.lr": 0.03}, RL),
    "two values that swap": ({"settings.methods.rl": {"lr": 0.02, "weight_decay": 0.01}}, RL),
    "the recipe of pretraining": ({"settings.archs.net.train.epochs": 2}, MODELS),
    "augmentation": ({"settings.datasets": {"digits": {"augment": {"crop": 1}}}}, LAYERS | MODELS),
    "radii": ({"settings.datasets": {"digits": {"eps": RADII}}}, GRID | ATTACKED),
    "settings of an attack": ({"settings.attacks": {"pgd": {"steps": 3}}}, PGD),
    "settings of the analysis": ({"settings.analysis": {"resamples": 100}}, ANALYSIS),
    "settings of the probe": ({"settings.probe": {"sigma": "pooled"}}, PROBED),
    "a label": ({"settings.archs.net.label": "Another"}, REPORT),
    "order of methods": ({"methods": ["salun", "rl"]}, REPORT),
}


@pytest.mark.parametrize(("changes", "jobs"), CHANGES.values(), ids=CHANGES)
def test_a_change_of_settings(finished, changes, jobs):
    before = with_settings(finished, study_of(STUDY))
    assert before == finished, "SETTINGS are those of the rules"
    assert remade(finished, with_settings(finished, study_of(changed(**changes)))) == jobs


@pytest.mark.parametrize("name", ["two values that swap", "radii"])
def test_snakemake_plans_what_settings_say(study, name):
    changes, jobs = CHANGES[name]
    with study.configured(changed(**changes)):
        assert study.planned("all") == jobs


# --- one more, and one dropped -----------------------------------------------------------------------

ADDED = [
    ({"seeds": [0, 1], "forgets": ["random10", "class3"]}, {"Collect trajectory"} | COMPOSITION | END),
    ({"archs": ["net", "other"]}, LAYERS | {"Collect trajectory"} | END),
    ({"scopes": ["last", "all", "first"]}, LAYERS | END),
    ({"methods": ["rl", "salun", "cf"]}, END),
    ({"attacks": ["pgd_l2", "fgsm", "pgd"]}, MEASURE),  # the first by another norm
]


@pytest.mark.parametrize(("more", "again"), ADDED, ids=[" and ".join(more) for more, _ in ADDED])
def test_one_more_and_one_dropped(study, finished, more, again):
    """Finished runs stay as they are: what is new is made, and ``again`` what sums up the study, then and now."""
    larger = changed(**more)
    with study.configured(larger):
        jobs = study.plan()
    planned = {job["message"] for job in jobs.values() if job["planned"]}
    assert planned == remade(finished, jobs) == (everything(larger) - everything(STUDY)) | again
    assert remade(jobs, finished) == again


def test_snakemake_plans_what_is_left_of_a_study(study):
    with study.configured(changed(methods=["rl"])):
        assert study.planned("all") == END


def test_a_metric_and_a_figure_more_or_less(study, finished):
    plugins = {
        f"src/unlearn/{kind}/extra.py": f"{kind}/{like}.py" for kind, like in (("metrics", "tow"), ("figures", "cost"))
    }
    more = {"metrics": [*DEFAULT["metrics"], "extra"], "figures": [*DEFAULT["figures"], "extra"]}
    with contextlib.ExitStack() as stack:
        for file, like in plugins.items():
            stack.enter_context(study.replaced(file, (PACKAGE / like).read_text()))
        stack.enter_context(study.configured(changed(**more)))
        larger = study.plan()
    planned = {job["message"] for job in larger.values() if job["planned"]}
    assert planned == remade(finished, larger) == MEASURE | {"Figure: extra"}
    assert remade(larger, finished) == MEASURE


@pytest.mark.parametrize(("metric", "rule"), [("cka", "features"), ("relearning", "relearn")])
def test_the_first_metric_that_reads_a_table_of_its_own(study, finished, metric, rule):
    """It is made for it, and for no metric that does not read it."""
    with study.configured(changed(metrics=[*DEFAULT["metrics"], metric])):
        larger = study.plan()
    planned = {job["message"] for job in larger.values() if job["planned"]}
    assert planned == remade(finished, larger) == of_runs(STUDY, rule) | MEASURE
    assert remade(larger, finished) == MEASURE


def test_a_study_by_another_name(study):
    """All of it is to be made, elsewhere; what the old name made stays."""
    before = sorted((study.root / "results").rglob("*"))
    with study.configured(changed(study="renamed")):
        assert study.planned("all") == everything(STUDY)
    assert sorted((study.root / "results").rglob("*")) == before


# --- what is vouched for, and what stops -------------------------------------------------------------


def test_a_misspelt_name_stops_the_finished_study(study):
    """Snakemake swallows an error in the functions of a rule whose results are there."""
    with study.configured(changed(methods=["rl", "salunn"])):
        done = study.snakemake("-n", "all")
    assert done.returncode != 0
    assert "salunn" in done.stderr
    assert "tiny.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refactoring_that_is_vouched_for(study):
    """``--touch`` records the results as those of the code as it now is."""
    with study.appended("src/unlearn/figures/cost.py"):
        study.run("--touch", "all")
        assert study.planned("all") == set()
    assert study.planned("all") == {"Figure: cost"}


EDITING = """
from snakemake import cli, dag
postprocess = dag.DAG.postprocess
async def edit(self, **options):
    await postprocess(self, **options)
    with open("src/unlearn/data/digits.py", "a") as file:
        file.write("\\nANSWER = 42\\n")
dag.DAG.postprocess = edit
cli.main()
"""


def test_code_that_is_edited_after_it_was_planned_is_not_run(study, tmp_path):
    """Neither what was planned nor what lies there now: the job stops, and is planned again. The last test here."""
    target = "results/digits/dataset.parquet"
    (study.root / target).unlink()
    folder = tmp_path / ("long" * 30)  # too long for fork servers, which load all libraries
    folder.mkdir()
    command = [sys.executable, "-c", EDITING, *study._options((target,))]
    environment = {**study._environment(), "TMPDIR": str(folder)}
    done = subprocess.run(command, cwd=study.root, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "StaleCode: the code was edited after this run was started" in done.stdout + done.stderr
    assert not (study.root / target).exists()
    assert study.planned(target) == DATA
