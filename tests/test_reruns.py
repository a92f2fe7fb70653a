"""What is planned again after an edit: exactly what the edit can change."""

import contextlib
import copy

import pytest
import yaml
from plans import (
    DEFAULT,
    GRID,
    WHOLE_RUN,
    analysis,
    end,
    everything,
    figures,
    of_runs,
    pretraining,
    report,
    splits,
)
from tiny import Copy, WarmCopy

from unlearn.fingerprint import Sources

pytestmark = pytest.mark.slow

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
FOLLOWED = {job for job in pretraining(STUDY) if not job.startswith("Pretrain")}
PROBED = FOLLOWED | of_runs(STUDY, "probe", "measure") | END
MODELS = pretraining(STUDY) | of_runs(STUDY, *WHOLE_RUN) | END


# --- the study -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    found = WarmCopy(tmp_path_factory.mktemp("reruns"), yaml.safe_dump(STUDY))
    found.finish()
    yield found
    found.close()


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


@contextlib.contextmanager
def configured(study, config):
    """The study's config replaced for a while."""
    path = study.root / "tiny.yaml"
    before = path.read_text()
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    try:
        yield
    finally:
        path.write_text(before)


def after(study, /, **changes):
    with configured(study, changed(**changes)):
        return study.planned("all")


def bodies(study, *edits):
    """Context in which functions, each given as (file, name), have one more statement."""
    stack = contextlib.ExitStack()
    for file, function in edits:
        text = (study.root / file).read_text()
        start = text.index(f"def {function}(")
        head = text[start : text.index(":\n", start) + 2]
        stack.enter_context(study.edited(file, head, f"{head}    answer = 42\n"))
    return stack


def after_code(study, *edits):
    with bodies(study, *edits):
        return study.planned("all")


# --- what changes no result ----------------------------------------------------------------------------------


def test_nothing(study):
    assert study.planned("all") == set()


def test_time_stamps_of_every_file(study):
    for path in sorted(study.root.rglob("*")):
        if path.is_file() and ".snakemake" not in path.parts and "results" not in path.parts:
            path.touch()
    assert study.planned("all") == set()


def test_comments_and_docstrings(study):
    with contextlib.ExitStack() as edits:
        for name in ("training", "schema", "methods/rl", "stages/train", "sources", "launch"):
            file = f"src/unlearn/{name}.py"
            text = (study.root / file).read_text()
            edits.enter_context(study.edited(file, text, text.replace('"""', '"""Reworded. ', 1) + "# A remark.\n"))
        assert study.planned("all") == set()


def test_order_of_keys(study):
    def turned(value):
        return {k: turned(value[k]) for k in reversed(value)} if isinstance(value, dict) else value

    with configured(study, yaml.safe_dump(turned(STUDY), sort_keys=False)):
        assert study.planned("all") == set()


def test_resources_threads_profile_cores_and_device(study):
    message = 'message:\n        "Pretrain: {wildcards.arch}'
    with (
        study.edited("workflow/rules/models.smk", message, f"threads: 2\n    {message}"),
        study.edited(
            "workflow/rules/evaluation.smk",
            "**model(30),\n    params:\n        run=identity,\n        code",
            "**model(45),\n    params:\n        run=identity,\n        code",
        ),
        study.edited("workflow/rules/resources.smk", "BASE_MB = 3000", "BASE_MB = 5000"),
        study.edited("profiles/default/profile.yaml", "scheduler: greedy", "scheduler: greedy\nretries: 2"),
        configured(study, changed(device="cpu")),
    ):
        assert study.planned("all", "--cores", "7") == set()


# --- code ----------------------------------------------------------------------------------------------------

CODE = {
    "methods/salun.py": ("unlearn", SALUN),
    "methods/rl.py": ("unlearn", RL),
    "methods/rl.py, shared with SalUn": ("relabelled", RL | SALUN),
    "methods/retrain.py": ("unlearn", RETRAIN),
    "methods/original.py": ("unlearn", ORIGINAL),
    "attacks/fgsm.py": ("build", {j for j in of_runs(STUDY, "attack") if " fgsm:" in j} | MEASURE),
    "attacks/pgd.py": ("build", {j for j in of_runs(STUDY, "attack") if " pgd:" in j} | MEASURE),
    "training.py": ("fit", MODELS),
    "stages/train.py": ("unlearn", of_runs(STUDY, *WHOLE_RUN) | END),
    "activations.py": ("spreads", PROBED),
    "stages/predict.py": ("predict", of_runs(STUDY, "predict", "measure") | END),
    "stages/collect.py": ("collect", {"Collect trajectory"} | END),
    "analysis/gates.py": ("gates", {"Gates"} | ANALYSIS),
    "analysis/comparisons.py": ("compare", ANALYSIS),
    "main_table.py": ("main_table", {"Main table"}),
    "figures/__init__.py": ("colours", FIGURES - {"Figure: overview"}),
    "data/digits.py": ("load", everything(STUDY) - GRID),
}
ELSEWHERE = (
    ("methods/cf.py", "unlearn"),
    ("attacks/square.py", "build"),
    ("metrics/residual.py", "compute_relative"),
    ("stages/tune.py", "tune"),
    ("study.py", "groups"),
)


@pytest.mark.parametrize(("file", "function", "jobs"), [(f, *edit) for f, edit in CODE.items()], ids=CODE)
def test_a_function(study, file, function, jobs):
    assert after_code(study, (f"src/unlearn/{file.split(',')[0]}", function)) == jobs


def test_functions_that_the_study_does_not_use(study):
    assert after_code(study, *((f"src/unlearn/{file}", function) for file, function in ELSEWHERE)) == set()


def test_metrics(study):
    """One in the plan; of the others that they change the same fingerprint, which is what the plan goes by."""
    roots = [f"unlearn.metrics.{name}" for name in DEFAULT["metrics"]]

    def fingerprint():
        return Sources(study.root / "src", study.root / "workflow/scripts").digest("measure.py", *roots)

    before = fingerprint()
    for name in DEFAULT["metrics"]:
        file = f"src/unlearn/metrics/{name}.py"
        function = "compute" if "def compute(" in (study.root / file).read_text() else "compute_relative"
        with bodies(study, (file, function)):
            assert fingerprint() != before, name
    assert after_code(study, (file, function)) == MEASURE


@pytest.mark.parametrize("name", DEFAULT["figures"])
def test_a_figure(study, name):
    assert after_code(study, (f"src/unlearn/figures/{name}.py", "draw")) == {f"Figure: {name}"}


@pytest.mark.parametrize(
    ("script", "jobs"),
    [
        ("split", splits(STUDY) | of_runs(STUDY, *WHOLE_RUN) | END),
        ("table", {"Main table"}),
    ],
)
def test_a_script(study, script, jobs):
    with study.edited(f"workflow/scripts/{script}.py", "import launch\n", "import launch\n\nANSWER = 42\n"):
        assert study.planned("all") == jobs


TABLES = {
    "DATASET": everything(STUDY),  # the code of the grid reads it, to calibrate
    "HISTORY": MODELS,
    "ACTIVATIONS": of_runs(STUDY, "probe", "measure") | END,
    "TRAJECTORY": FOLLOWED | END,
    "FAILURES": {"Collect trajectory"} | END,  # the code that collects is one
    "CORRELATIONS": ANALYSIS,
    "SHADOW": set(),
}


@pytest.mark.parametrize(("table", "jobs"), TABLES.items(), ids=TABLES)
def test_a_table(study, table, jobs):
    with study.edited("src/unlearn/schema.py", f"\n{table} = Table(", f"\n{table} = Table(*(), "):
        assert study.planned("all") == jobs


# --- settings ------------------------------------------------------------------------------------------------


def test_a_hyper_parameter(study):
    assert after(study, **{"settings.methods.rl.lr": 0.03}) == RL


def test_two_values_that_swap(study):
    assert after(study, **{"settings.methods.rl": {"lr": 0.02, "weight_decay": 0.01}}) == RL


def test_the_recipe_of_pretraining(study):
    assert after(study, **{"settings.archs.net.train.epochs": 2}) == MODELS


def test_radii(study):
    radii = {"linf": {"eps": [0.1, 0.2], "headline": 0.1}}
    assert (
        after(study, **{"settings.datasets": {"digits": {"eps": radii}}})
        == GRID | of_runs(STUDY, "attack", "measure") | END
    )


def test_settings_of_an_attack(study):
    pgd = {job for job in of_runs(STUDY, "attack") if job.startswith("Attack by pgd")}
    assert after(study, **{"settings.attacks": {"pgd": {"steps": 3}}}) == pgd | MEASURE


def test_settings_of_the_analysis(study):
    assert after(study, **{"settings.analysis": {"resamples": 100}}) == ANALYSIS


def test_settings_of_the_probe(study):
    assert after(study, **{"settings.probe": {"sigma": "pooled"}}) == PROBED


def test_a_label(study):
    assert after(study, **{"settings.archs.net.label": "Another"}) == REPORT


def test_order_of_methods(study):
    assert after(study, methods=["salun", "rl"]) == REPORT


# --- one more, and one dropped -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "again"),
    [
        ("seeds", 1, {"Collect trajectory"} | END),
        ("archs", "other", {"Collect trajectory"} | END),
        ("forgets", "class3", END),
        ("scopes", "first", END),
        ("methods", "cf", END),
        ("attacks", "noise", MEASURE),
        ("attacks", "pgd_l2", MEASURE),  # the first by another norm
    ],
)
def test_one_more_and_one_dropped(study, key, value, again):
    """Finished runs stay as they are: what is new is made, and ``again`` what sums up the study, then and now."""
    larger = changed(**{key: [value, *STUDY[key]] if key == "attacks" else [*STUDY[key], value]})
    with configured(study, larger):
        assert study.planned("all") == (everything(larger) - everything(STUDY)) | again
        study.finish()
    assert study.planned("all") == again
    study.finish()


@contextlib.contextmanager
def added(study, file, like):
    """A plug-in more for a while, the copy of another one."""
    path = study.root / file
    path.write_text((study.root / like).read_text())
    try:
        yield
    finally:
        path.unlink()


def test_a_metric_more_or_dropped(study):
    more = [*DEFAULT["metrics"], "extra"]
    with added(study, "src/unlearn/metrics/extra.py", "src/unlearn/metrics/tow.py"):
        assert after(study, metrics=more) == MEASURE
    without = [name for name in DEFAULT["metrics"] if name != "tow"]
    assert after(study, metrics=without) == MEASURE


def test_a_figure_more_or_dropped(study):
    assert after(study, figures=DEFAULT["figures"][1:]) == set()
    with added(study, "src/unlearn/figures/extra.py", "src/unlearn/figures/cost.py"):
        assert after(study, figures=[*DEFAULT["figures"], "extra"]) == {"Figure: extra"}


def test_a_study_by_another_name(study):
    """All of it is to be made, elsewhere; what the old name made stays."""
    before = sorted((study.root / "results").rglob("*"))
    assert after(study, study="renamed") == everything(STUDY)
    assert sorted((study.root / "results").rglob("*")) == before
    assert study.planned("all") == set()


def test_a_refactoring_that_is_vouched_for(study):
    """``--touch`` records the results as those of the code as it now is."""
    with bodies(study, ("src/unlearn/training.py", "fit")):
        assert study.planned("all") == MODELS
        study.run("--touch", "all")
        assert study.planned("all") == set()
    assert study.planned("all") == MODELS
    study.run("--touch", "all")


# --- what stops ----------------------------------------------------------------------------------------------

MISSPELT = {
    "salunn": {"methods": ["rl", "salunn"]},
    "lsat": {"scopes": ["lsat"]},
    "pgdd": {"attacks": ["pgdd"]},
    "zero": {"seeds": ["zero"]},
    "acuracy": {"metrics": ["acuracy"]},
    "cots": {"figures": ["cots"]},
    "nett": {"archs": ["nett"]},
    "random01": {"forgets": ["random01"]},
    "digit'": {"dataset": "digit"},
    "sedes": {"sedes": [0]},
    "learning": {"settings.methods.rl.learning": 1.0},
}


@pytest.mark.parametrize(("wrong", "changes"), MISSPELT.items(), ids=MISSPELT)
def test_a_misspelt_name_stops_the_finished_study(study, wrong, changes):
    with configured(study, changed(**changes)):
        done = study.snakemake("-n", "all")
    assert done.returncode != 0
    assert wrong in done.stderr
    assert "tiny.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_edit_while_a_run_is_under_way(tmp_path):
    """The data set's job edits the code of the split, which then refuses to run; started again, it runs."""
    found = Copy(tmp_path, yaml.safe_dump(STUDY))
    split = "src/unlearn/stages/split.py"
    lines = f"    with open({split!r}, 'a') as file:\n        file.write('\\nlog = logging.getLogger(\"edited\")\\n')\n"
    head = "def load(settings: Settings) -> Source:\n"
    target = "results/splits/random10.parquet"
    with found.edited("src/unlearn/data/digits.py", head, head + lines):
        done = found.snakemake(target)
        assert done.returncode != 0
        assert "StaleCode: the sources have changed since this run was started" in done.stdout + done.stderr
        assert not (tmp_path / target).exists()
        assert found.planned(target) == splits(STUDY)
        found.run(target)
        assert found.planned(target) == set()
