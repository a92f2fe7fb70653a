"""Every figure and the table, drawn from an imaginary study: what is plotted is what was measured."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from unlearn.analysis.comparisons import compare
from unlearn.analysis.conjectures import Settings, conclude
from unlearn.analysis.correlations import correlate
from unlearn.analysis.gates import gates
from unlearn.api.figures import cells, colours, name
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.catalogue import TABLES
from unlearn.io.columns import DETAIL_KEY, RUN_KEY
from unlearn.io.schema.comparisons import COMPARISONS
from unlearn.io.schema.failures import FAILURES
from unlearn.io.schema.radii import RADII
from unlearn.reports.main_table import main_table, to_latex, to_markdown
from unlearn.reports.verdicts import page
from unlearn.stages.figure import figure as figure_stage
from unlearn.stages.table import table as table_stage

FIGURES = plugins.names("figures")
ATTACKS, EPS, HEADLINE = ("fgsm", "pgd"), (0.1, 0.2), 0.2
SETTINGS = {
    "archs": ["resnet", "vit"],
    "forgets": ["ten", "class_3"],
    "methods": ["original", "retrain", "cf", "salun"],
    "scopes": ["last", "all"],
    "attacks": list(ATTACKS),
    "headline_eps": dict.fromkeys(ATTACKS, HEADLINE),
    "threat_norms": dict.fromkeys(ATTACKS, "linf"),
    "labels": {"resnet": "ResNet", "vit": "ViT"},
}
NONE = pd.DataFrame(columns=[*RUN_KEY, "reason"])  # of runs that failed
CELLS = [("original", "all"), ("retrain", "all"), *itertools.product(["cf", "salun"], ["last", "all"])]


def keys(metric):
    """The keys under which a metric is measured."""
    if metric.startswith(("aurc", "robust_curve")):
        return [{"attack": a, "role": r} for a in ATTACKS for r in ("test", "retain")]
    if metric.startswith(("robust_", "robustness")):
        radii = EPS if metric == "robustness_drop" else (0.0, *EPS)
        return [{"attack": a, "eps": e, "role": r} for a in ATTACKS for e in radii for r in ("test", "retain")]
    if metric in ("fairness_gap", "relative_fairness_gap"):
        return [{"role": "test", "layer": layer} for layer in ("stem", "norm.1", "norm.10")]
    if metric == "class_accuracy":
        return [{"role": "test", "class": c} for c in (0, 1)]
    return [{"role": "test"} if "gap_" in metric or metric in ("class_disparity", "worst_class_accuracy") else {}]


def metrics(seeds, settings=SETTINGS):
    rng = np.random.default_rng(0)
    declared = [m for n in plugins.names("metrics") for m in plugins.load("metrics", n).METRICS]
    rows = [
        {"arch": a, "forget": f, "method": m, "scope": s, "seed": seed, "metric": metric}
        | dict.fromkeys(DETAIL_KEY)
        | key
        | {"value": rng.random(), "n": 10}
        for a, f, (m, s), seed in itertools.product(settings["archs"], settings["forgets"], CELLS, range(seeds))
        for metric in declared
        for key in keys(metric)
    ]
    types = {"role": "str", "attack": "str", "layer": "str", "eps": "Float64", "class": "Int64"}
    return pd.DataFrame(rows).astype(types)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Number of seeds → paths of the study's three tables, as the stages write them."""
    found = {}
    for seeds in (1, 3):
        folder = tmp_path_factory.mktemp(f"seeds{seeds}")
        frame = metrics(seeds)
        parts = {
            "metrics": frame,
            "comparisons": compare(frame, 0.95, 100, 0).assign(failed=""),
            "radii": pd.DataFrame({"threat_norm": "linf", "eps": EPS, "headline": [e == HEADLINE for e in EPS]}),
            "gates": gates(
                frame, {a: {"threat_norm": "linf", "category": "iterative", "aim": "fool"} for a in ATTACKS}
            ),
            "correlations": correlate(frame, 0.95, 100, 0, dict.fromkeys(ATTACKS, HEADLINE)),
        }
        judged = Settings(0.95, 100, 0, "pgd", dict.fromkeys(ATTACKS, HEADLINE))
        parts["conjectures"] = conclude(frame, parts["correlations"], None, judged)
        found[seeds] = {kind: str(folder / f"{kind}.parquet") for kind in parts}
        for kind, part in parts.items():
            tables.write(TABLES[kind], found[seeds][kind], part, {})
    return found


@pytest.fixture(params=[1, 3], ids=["one seed", "three seeds"])
def study(request, studies):
    return {kind: tables.read(TABLES[kind], path).to_pandas() for kind, path in studies[request.param].items()}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def drawn(figure, study, settings=SETTINGS):
    module = plugins.load("figures", figure)
    frame = module.data({need: study[need] for need in module.NEEDS}, settings)
    return frame, module.draw(frame, settings)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure(figure, study):
    frame, found = drawn(figure, study)
    assert isinstance(found, Figure)
    assert len(frame)
    spread = {"low", "high", "coefficient", "p"}  # undefined for one seed
    numbers = frame.select_dtypes("number").drop(columns=spread, errors="ignore")
    assert len(numbers.columns)
    assert np.isfinite(numbers.to_numpy(float)).all()
    assert set(frame["arch"]) == {"resnet", "vit"}
    assert set(frame["forget"]) == {"ten", "class_3"}


@pytest.mark.parametrize("figure", FIGURES)
def test_axes_are_labelled(figure, study):
    _, found = drawn(figure, study)
    panels = [axis for axis in found.axes if axis.get_title()]
    assert len(panels) >= 4, "architectures times forget sets"
    assert {"ResNet, forget ten", "ViT, forget class_3"} <= {axis.get_title().removeprefix("PGD, ") for axis in panels}
    assert any(axis.get_xlabel() for axis in found.axes) or found.get_supxlabel()
    assert any(axis.get_ylabel() for axis in found.axes)
    assert any(text.get_text().strip() for axis in found.axes for text in axis.get_xticklabels())


@pytest.mark.parametrize("figure", FIGURES)
def test_one_architecture_and_forget_set(figure, study):
    settings = {**SETTINGS, "archs": ["vit"], "forgets": ["ten"]}
    alone = {k: f for k, f in study.items() if "arch" in f}
    alone = {k: f[(f["arch"] == "vit") & (f["forget"].eq("ten") if "forget" in f else True)] for k, f in alone.items()}
    _, found = drawn(figure, alone, settings)
    titles = [axis.get_title() for axis in found.axes if axis.get_title()]
    assert all(title.endswith("ViT") for title in titles), "a single forget set needs no mention"


def line(found, title, label):
    (axis,) = (a for a in found.axes if a.get_title() == title)
    handles, labels = axis.get_legend_handles_labels()
    handle = handles[labels.index(label)]
    return getattr(handle, "lines", [handle])[0].get_xydata()


def test_robustness_plots_clean_and_robust_accuracy(study):
    frame, found = drawn("robustness", study)
    cell = study["comparisons"].query("arch == 'vit' and forget == 'ten' and method == 'cf' and scope == 'all'")
    robust = cell.query("metric == 'robust_accuracy' and attack == 'pgd' and role == 'test'").sort_values("eps")
    points = line(found, "PGD, ViT, forget ten", "CF")
    assert points[:, 0].tolist() == [0.0, *EPS]
    assert points[:, 1].tolist() == pytest.approx((100 * robust["mean"]).tolist())
    assert set(frame["attack"]) == set(ATTACKS)
    assert not frame.duplicated().any()


def test_fairness_gap_plots_layers_in_order_of_execution(study):
    _, found = drawn("fairness_gap", study)
    comparisons = study["comparisons"].query(
        "arch == 'vit' and forget == 'ten' and method == 'salun' and scope == 'all' and metric == 'fairness_gap'"
    )
    by_layer = comparisons.set_index("layer")["mean"]
    points = line(found, "ViT, forget ten", "SalUn")
    assert points[:, 1].tolist() == pytest.approx(by_layer[["stem", "norm.1", "norm.10"]].tolist())


def test_cost_plots_every_method_beside_retraining(study):
    frame, found = drawn("cost", study)
    assert set(frame["method"]) == {"cf", "salun"}
    heights = sorted(bar.get_height() for axis in found.axes for bar in axis.patches)
    assert heights == pytest.approx(sorted(frame["mean"]))


def test_overview_writes_percentages(study):
    frame, found = drawn("overview", study)
    texts = sorted(text.get_text() for axis in found.axes for text in axis.texts)
    assert texts == sorted(f"{100 * mean:.1f}" for mean in frame["mean"])


def test_gap_vs_robustness_plots_every_run(study):
    frame, found = drawn("gap_vs_robustness", study)
    points = np.concatenate([c.get_offsets() for axis in found.axes for c in axis.collections])
    assert len(points) == len(frame) == study["metrics"].drop_duplicates(list(RUN_KEY)).shape[0]
    assert sorted(points[:, 1]) == pytest.approx(sorted(100 * frame["robustness_drop"]))
    assert set(frame["attack"]) == {"pgd"}
    assert set(frame["eps"]) == {HEADLINE}
    caption = found.axes[0].texts[0].get_text()
    assert f"Spearman {frame['coefficient'].iloc[0]:+.2f}" in caption
    seeds = study["metrics"]["seed"].nunique()
    assert ("[" in caption) == (seeds > 1), "one seed has no interval"
    assert caption.endswith(", 1 seed" if seeds == 1 else ", 3 seeds")


def test_gap_vs_robustness_gives_spearmans_coefficient(study):
    frame, _ = drawn("gap_vs_robustness", study)
    for arch, runs in frame.groupby("arch"):
        expected = spearmanr(runs["fairness_gap"], runs["robustness_drop"]).statistic
        assert runs["coefficient"].tolist() == pytest.approx([expected] * len(runs)), arch


@pytest.mark.parametrize("figure", FIGURES)
def test_what_was_not_measured_is_left_out(figure, study):
    """A study may name fewer metrics, such as no comparison with retraining beyond the figures'."""
    without = {kind: frame.copy() for kind, frame in study.items()}
    for kind in ("metrics", "comparisons"):
        without[kind] = without[kind].query("metric not in ('average_gap', 'relative_memory', 'class_disparity')")
    drawn(figure, without)


@pytest.mark.filterwarnings("error")  # such as a layout that does not fit
@pytest.mark.parametrize("figure", FIGURES)
def test_the_stage_writes_the_plotted_numbers(figure, studies, tmp_path):
    pdf, png, csv = (tmp_path / f"figure.{kind}" for kind in ("pdf", "png", "csv"))
    figure_stage(figure, str(pdf), str(png), str(csv), SETTINGS, **studies[1])
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert not plt.get_fignums(), "closed again"
    study = {kind: tables.read(TABLES[kind], path).to_pandas() for kind, path in studies[1].items()}
    frame = plugins.load("figures", figure).data(study, SETTINGS)
    stored = pd.read_csv(csv)
    if "failed" in stored:
        stored["failed"] = stored["failed"].astype(object).fillna("")
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False)


def test_the_stage_says_when_there_is_nothing_to_plot(studies, tmp_path):
    elsewhere = tmp_path / "radii.parquet"
    tables.write(RADII, elsewhere, {"threat_norm": ["linf"], "eps": [0.15], "headline": [True]}, {})
    inputs = {**studies[1], "radii": str(elsewhere)}
    with pytest.raises(ValueError, match=r"'gap_vs_robustness' has nothing to plot; are its metrics in the config\?"):
        figure_stage("gap_vs_robustness", "", "", str(tmp_path / "csv"), SETTINGS, **inputs)


# --- the table ------------------------------------------------------------------------------------


def test_main_table_is_scaled_and_ordered(study):
    frame = main_table(study["comparisons"], NONE, SETTINGS)
    assert frame["arch"].drop_duplicates().tolist() == SETTINGS["archs"]
    found = frame.set_index(["arch", "forget", "method", "scope", "heading"])["mean"]
    source = study["comparisons"].query("arch == 'vit' and forget == 'ten' and method == 'cf' and scope == 'last'")
    assert found["vit", "ten", "cf", "last", "UA"] == pytest.approx(100 * source.query("metric == 'ua'")["mean"].item())
    robust = source.query(f"metric == 'robust_accuracy' and attack == 'pgd' and role == 'test' and eps == {HEADLINE}")
    assert found["vit", "ten", "cf", "last", "RobA"] == pytest.approx(100 * robust["mean"].item())
    time = source.query("metric == 'relative_seconds'")["mean"].item()
    assert found["vit", "ten", "cf", "last", "Time"] == pytest.approx(time)


def test_main_table_as_markdown(study):
    frame = main_table(study["comparisons"], NONE, SETTINGS)
    head, rule, *rows, empty, caption = to_markdown(frame, SETTINGS).splitlines()
    assert len(rows) == 2 * 2 * len(CELLS)
    assert {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
    assert [part.strip() for part in head.split("|")[1:5]] == ["Model", "Method", "Scope", "UA"]
    assert rows[0].startswith("| ResNet / ten | Original | all | ")
    assert empty == ""
    seeds = frame["n"].iloc[0]
    assert f"mean over {seeds} seed(s)" in caption
    assert all(("±" in row) == (seeds > 1) for row in rows)
    ua = frame[frame["heading"] == "UA"].iloc[0]
    half = f" ± {(ua['high'] - ua['low']) / 2:.2f}" if seeds > 1 else ""
    assert rows[0].split("|")[4].strip() == f"{ua['mean']:.2f}{half}"


def test_a_number_behind_a_failed_gate_is_marked(study):
    doubtful = study["comparisons"].copy()
    hit = (doubtful["attack"] == "pgd") & (doubtful["method"] == "cf") & (doubtful["scope"] == "all")
    doubtful.loc[hit, "failed"] = "losses, white_box"
    text = to_markdown(main_table(doubtful, NONE, SETTINGS), SETTINGS)
    marked = [line for line in text.splitlines() if "†" in line and line.startswith("|")]
    assert [line.split("|")[2:4] for line in marked] == [[" CF ", " all "]] * 4
    assert {line.count("†") for line in marked} == {3}, "RobA, its gap, and that of AURC"
    assert text.endswith("† failed a gate: losses, white_box.\n")
    assert "†" not in to_markdown(main_table(study["comparisons"], NONE, SETTINGS), SETTINGS)
    axes = drawn("robustness", {**study, "comparisons": doubtful})[1].axes
    assert [axis.get_title().endswith("gates failed: losses, white_box") for axis in axes] == [False] * 4 + [True] * 4


def test_main_table_as_latex(study):
    text = to_latex(main_table(study["comparisons"], NONE, SETTINGS), SETTINGS)
    lines = text.splitlines()
    columns = lines[1].removeprefix(r"\begin{tabular}{").removesuffix("}")
    body = [line for line in lines if line.endswith(r"\\")]
    assert len(body) == 1 + 2 * 2 * len(CELLS)
    assert {line.count(" & ") for line in body} == {len(columns) - 1}
    assert r"class\_3" in text
    assert text.count(r"\begin") == text.count(r"\end") == 1
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert not [line for line in body if "%" in line.replace(r"\%", "")]


def test_table_stage_writes_three_forms_of_one_table(studies, tmp_path):
    csv, markdown, latex, verdicts = (tmp_path / name for name in ("main.csv", "main.md", "main.tex", "verdicts.md"))
    inputs = {kind: studies[3][kind] for kind in ("comparisons", "conjectures", "gates", "radii")}
    inputs["failures"] = tmp_path / "failures.parquet"
    tables.write(FAILURES, inputs["failures"], NONE, {})
    settings = {key: value for key, value in SETTINGS.items() if key != "headline_eps"}
    table_stage(**inputs, csv=csv, markdown=markdown, latex=latex, verdicts=verdicts, settings=settings)
    frame = main_table(tables.read(COMPARISONS, studies[3]["comparisons"]).to_pandas(), NONE, SETTINGS)
    stored = pd.read_csv(csv)
    if "failed" in stored:
        stored["failed"] = stored["failed"].astype(object).fillna("")
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
    assert markdown.read_text() == to_markdown(frame, SETTINGS)
    assert latex.read_text() == to_latex(frame, SETTINGS)
    assert verdicts.read_text().startswith("## Conjectures\n\n| conjecture | model |")


def test_page_of_verdicts(study):
    text = page(study["conjectures"], study["gates"], NONE, SETTINGS)
    conjectures, failing = text.split("## Gates")
    rows = [line for line in conjectures.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) == len(study["conjectures"])
    assert [row.split(" | ")[-2] for row in rows] == study["conjectures"]["verdict"].tolist()
    ran = study["gates"][study["gates"]["passed"].notna()]
    assert f"{int(ran['passed'].sum())} of {len(ran)} checks passed." in failing
    assert "monotone" in failing, "random numbers are no honest curves"
    assert "Nothing in the study to compare with, or not measured: " in failing
    quiet = study["gates"].assign(passed=True)
    assert "|" not in page(study["conjectures"], quiet, NONE, SETTINGS).split("## Gates")[1].split("## Failed")[0]


# --- shared ---------------------------------------------------------------------------------------


def test_methods_keep_their_colour_and_differ():
    found = colours({"methods": ["original", "retrain", *(f"m{i}" for i in range(16))]})
    assert len(set(found.values())) == 18
    assert found["original"] == colours(SETTINGS)["original"]


def test_names():
    assert [name(method) for method in ("original", "retrain", "salun", "cf", "my_own")] == [
        *("Original", "Retrain", "SalUn", "CF", "MY-OWN")
    ]


def test_cells_come_in_the_order_of_the_study():
    mixed = pd.DataFrame({"arch": ["vit", "resnet", "vit"], "scope": ["all", "all", "last"], "x": [1, 2, 3]})
    assert cells(mixed, SETTINGS)["x"].tolist() == [2, 3, 1]
