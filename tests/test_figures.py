"""Every figure and the pages of a study, from an imaginary one: what is shown is what was measured."""

import itertools
import re
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from unlearn.analysis.comparisons import compare
from unlearn.analysis.conjectures import Settings, conclude
from unlearn.analysis.correlations import correlate
from unlearn.analysis.gates import Attack, gates
from unlearn.api.figures import STYLE, ReportSettings, cells, name
from unlearn.config import plugins
from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.catalogue import TABLES
from unlearn.io.columns import CELL_KEY, DETAIL_KEY, RUN_KEY
from unlearn.io.schema.composition import COMPOSITION
from unlearn.io.schema.failures import FAILURES
from unlearn.io.schema.radii import RADII
from unlearn.reports import markup
from unlearn.reports.main_table import COLUMNS, main_table, to_latex, to_markdown
from unlearn.reports.verdicts import page
from unlearn.stages.figure import figure as figure_stage
from unlearn.stages.table import table as table_stage

FIGURES = plugins.names("figures")
ATTACKS, EPS, HEADLINE = ("fgsm", "pgd"), (0.1, 0.2), 0.2
SETTINGS = ReportSettings(
    archs=["resnet", "vit"],
    forgets=["ten", "class_3"],
    methods=["original", "retrain", "cf", "salun"],
    scopes=["last", "all"],
    attacks=list(ATTACKS),
    headline_eps=dict.fromkeys(ATTACKS, HEADLINE),
    threat_norms=dict.fromkeys(ATTACKS, "linf"),
    labels={"resnet": "ResNet", "vit": "ViT"},
)
NO_FAILURES = pd.DataFrame(columns=[*RUN_KEY, "reason"])
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
    if metric.startswith("cka_"):
        layers_ = [f"group {i}" for i in (0, 2, 10)] + ["penultimate"]
        return [{"role": role, "layer": layer} for role in ("forget", "test") for layer in layers_]
    if metric == "js_divergence":
        return [{"role": "forget"}, {"role": "test"}]
    if metric == "class_accuracy":
        return [{"role": "test", "class": c} for c in (0, 1)]
    return [{"role": "test"} if "gap_" in metric or metric in ("class_disparity", "worst_class_accuracy") else {}]


def metrics(count, of_cells=CELLS):
    """Random values of all declared metrics, of ``count`` seeds."""
    rng = np.random.default_rng(0)
    declared = [m for n in plugins.names("metrics") for m in plugins.load("metrics", n).METRICS]
    rows = [
        {"arch": a, "forget": f, "method": m, "scope": s, "seed": seed, "metric": metric}
        | dict.fromkeys(DETAIL_KEY)
        | key
        | {"value": rng.random(), "n": 10, "reason": None}
        for a, f, (m, s), seed in itertools.product(SETTINGS.archs, SETTINGS.forgets, of_cells, range(count))
        for metric in declared
        for key in keys(metric)
    ]
    types = {**dict.fromkeys(("role", "attack", "layer", "reason"), "str"), "eps": "Float64", "class": "Int64"}
    return pd.DataFrame(rows).astype(types)


def layers(held):
    """The table of layers where each architecture holds so many in each scope: the more layers, the fewer weights."""
    rows = [(arch, scope, 100 - 10 * n + i, n) for arch in held for i, (scope, n) in enumerate(held[arch].items())]
    frame = pd.DataFrame(rows, columns=["arch", "scope", "parameters", "layers"])
    return frame.assign(parameter_share=0.5, layer_share=0.5)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Number of seeds → paths of the study's tables, as the stages write them."""
    return {count: written(metrics(count), tmp_path_factory.mktemp(f"seeds{count}")) for count in (1, 3)}


def written(frame, folder):
    """Paths of the tables of a study with these metrics."""
    parts = {
        "metrics": frame,
        "layers": layers({key: {"last": 2, "all": 6} for key in SETTINGS.archs}),
        "comparisons": compare(frame, 0.95, 100, 0).assign(failed_gates=""),
        "radii": pd.DataFrame({"threat_norm": "linf", "eps": EPS, "headline": [e == HEADLINE for e in EPS]}),
        "gates": gates(frame, dict.fromkeys(ATTACKS, Attack("linf", "iterative", "fool"))),
        "correlations": correlate(frame, 0.95, 100, 0, dict.fromkeys(ATTACKS, HEADLINE)),
    }
    judged = Settings(0.95, 100, 0, "pgd", dict.fromkeys(ATTACKS, HEADLINE))
    parts["conjectures"] = conclude(frame, parts["correlations"], None, judged)
    paths = {kind: str(folder / f"{kind}.parquet") for kind in parts}
    for kind, part in parts.items():
        tables.write(TABLES[kind], paths[kind], part, {})
    return paths


def read(paths):
    return {kind: tables.read(TABLES[kind], path).to_pandas() for kind, path in paths.items()}


@pytest.fixture(params=[1, 3], ids=["one seed", "three seeds"])
def study(request, studies):
    return read(studies[request.param])


@pytest.fixture
def three(studies):
    """The study of three seeds."""
    return read(studies[3])


@pytest.fixture(autouse=True)
def _style():
    with plt.rc_context(STYLE):
        yield
    plt.close("all")


def drawn(figure, study, settings=SETTINGS):
    module = plugins.load("figures", figure)
    frame = module.data({need: study[need] for need in module.NEEDS}, settings)
    return frame, module.draw(frame, settings)


def only(study, condition):
    """The rows of the study's tables of runs and cells that meet a condition."""
    return {kind: f.query(condition) if {"arch", "method"} <= {*f} else f for kind, f in study.items()}


def titles(found):
    return [axis.get_title() for axis in found.axes if axis.get_title()]


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure(figure, study):
    frame, found = drawn(figure, study)
    assert isinstance(found, Figure)
    spread = {"low", "high", "coefficient", "p"}  # undefined for one seed
    numbers = frame.select_dtypes("number").drop(columns=spread, errors="ignore")
    assert len(numbers.columns)
    assert np.isfinite(numbers.to_numpy(float)).all()
    assert set(zip(frame["arch"], frame["forget"])) == set(itertools.product(SETTINGS.archs, SETTINGS.forgets))
    assert len(titles(found)) >= 4, "architectures times forget sets"
    assert {"ResNet, forget ten", "ViT, forget class_3"} <= {title.removeprefix("PGD, ") for title in titles(found)}
    assert any(axis.get_xlabel() for axis in found.axes) or found.get_supxlabel()
    assert any(axis.get_ylabel() for axis in found.axes)
    assert any(text.get_text().strip() for axis in found.axes for text in axis.get_xticklabels())


@pytest.mark.parametrize("figure", FIGURES)
def test_one_architecture_and_forget_set(figure, three):
    settings = replace(SETTINGS, archs=["vit"], forgets=["ten"])
    _, found = drawn(figure, only(three, "arch == 'vit' and forget == 'ten'"), settings)
    assert all(title.endswith("ViT") for title in titles(found)), "a single forget set needs no mention"


HOSTILE = r"A|B #1 $x_y$ 50% {a}~^\b & <i>*c* `d` [e](f) & _g_"


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.slow
def test_labels_are_printed_as_they_are(figure, three):
    settings = replace(SETTINGS, labels={"resnet": HOSTILE, "vit": r"$\broken$"})
    _, found = drawn(figure, only(three, "forget == 'ten'"), settings)
    found.canvas.draw()
    assert any(HOSTILE in title for title in titles(found))


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


WIDEST = {
    "listed last": ({"last": 2, "all": 6}, "all"),
    "listed first": ({"intermediate+last": 4, "last": 2}, "intermediate+last"),
    "by weights where layers are equal": ({"first": 2, "last": 2}, "last"),
    "a long range of groups": ({"groups0-9": 5, "last": 2}, "groups0-9"),
    "a short range of groups": ({"last": 2, "groups5": 1}, "last"),
}


def with_scopes(study, scopes):
    """The study with its methods on ``scopes`` instead of last and all; its controls stay on all."""
    frames = dict(study)
    for kind in ("metrics", "comparisons"):
        scope, control = frames[kind]["scope"], frames[kind]["method"].isin(["original", "retrain"])
        frames[kind] = frames[kind].assign(scope=scope.where(control, scope.map(dict(zip(["last", "all"], scopes)))))
    return frames


def shown_of(found, figure, arch="ViT"):
    """Labels of the lines that a panel shows, and the title of the legend without the number of seeds."""
    title = f"{'PGD, ' * (figure == 'robustness')}{arch}, forget ten"
    labels = [label for label in ("Original", "Retrain", "CF", "SalUn") if len(line(found, title, label)) == 3]
    return labels, found.legends[0].get_title().get_text().removesuffix(" (3 seeds)")


@pytest.mark.parametrize("figure", ["fairness_gap", "robustness"])
@pytest.mark.parametrize(("held", "widest"), WIDEST.values(), ids=WIDEST)
def test_figures_of_one_scope_show_every_method_on_the_widest(figure, held, widest, three):
    """Wherever it is listed, and beside the controls, which run on all layers."""
    frames = only(with_scopes(three, held), "arch == 'vit' and forget == 'ten'")
    frames["layers"] = layers({"vit": {**held, "all": 6}})
    frame, found = drawn(figure, frames, replace(SETTINGS, scopes=list(held), forgets=["ten", "other"]))
    assert set(frame[["method", "scope"]].itertuples(index=False, name=None)) == {
        *(("original", "all"), ("retrain", "all"), ("cf", widest), ("salun", widest))
    }
    labels, title = shown_of(found, figure)
    assert labels == ["Original", "Retrain", "CF", "SalUn"]
    assert title == ("scope: all" if widest == "all" else f"scope: {widest}; controls: all")


@pytest.mark.parametrize("figure", ["fairness_gap", "robustness"])
def test_the_widest_scope_is_the_architectures_own(figure, three):
    """A third of one model holds fewer layers than a range of its groups, of another model more."""
    frames = with_scopes(three, ["last", "groups0-3"])
    frames["layers"] = layers({"resnet": {"last": 9, "groups0-3": 4}, "vit": {"last": 2, "groups0-3": 4}})
    frame, found = drawn(figure, frames, replace(SETTINGS, scopes=["last", "groups0-3"]))
    methods = frame[~frame["method"].isin(["original", "retrain"])]
    assert set(methods[["arch", "scope"]].itertuples(index=False, name=None)) == {
        ("resnet", "last"),
        ("vit", "groups0-3"),
    }
    assert shown_of(found, figure)[1] == "scope: last (ResNet), groups0-3 (ViT); controls: all"


def test_cost_plots_every_method_beside_retraining(study):
    frame, found = drawn("cost", study)
    assert set(frame["method"]) == {"cf", "salun"}
    heights = sorted(bar.get_height() for axis in found.axes for bar in axis.patches)
    assert heights == pytest.approx(sorted(frame["mean"]))


def test_overview_writes_percentages(study):
    frame, found = drawn("overview", study)
    texts = sorted(text.get_text() for axis in found.axes for text in axis.texts)
    assert texts == sorted(f"{100 * mean:.1f}" for mean in frame["mean"])


def test_representation_shows_layers_in_order_of_depth_and_outputs_last(study):
    frame, found = drawn("representation", study)
    for axis in found.axes[:4]:
        ticks = [text.get_text() for text in axis.get_xticklabels()]
        assert ticks == ["group 0", "group 2", "group 10", "penultimate", "outputs"]
    cell = study["comparisons"].query("arch == 'vit' and forget == 'ten' and method == 'cf' and scope == 'all'")
    cell = cell[cell["role"] == "forget"].set_index(["metric", "layer"])
    shown = frame.query("arch == 'vit' and forget == 'ten' and method == 'cf' and scope == 'all'").set_index("layer")
    known, said = cell.loc[("cka_retrain", "group 10")], cell.xs("js_divergence").iloc[0]
    for drawn_, expected in (
        (shown.loc["group 10"], 1 - known[["mean", "high", "low"]]),
        (shown.loc["outputs"], said[["mean", "low", "high"]] / np.log(2)),
    ):
        assert drawn_[["mean", "low", "high"]].tolist() == pytest.approx(expected.tolist(), nan_ok=True)
        assert not drawn_["high"] < drawn_["low"]
    texts = [text.get_text() for axis in found.axes for text in axis.texts]
    assert sorted(texts) == sorted(f"{mean:.2f}" for mean in frame["mean"])


@pytest.mark.parametrize("figure", FIGURES)
def test_a_cell_whose_runs_all_failed_leaves_a_gap(figure, three):
    """In one of the panels; the others show it."""
    _, found = drawn(figure, only(three, "not (arch == 'vit' and method == 'cf' and scope == 'all')"))
    assert len(titles(found)) >= 4
    if figure in ("overview", "representation"):
        texts = [[text.get_text() for text in axis.texts] for axis in found.axes[:4]]
        assert [of_axis.count("—") for of_axis in texts] == [0, 0, 5, 5]


def test_gap_vs_robustness_plots_every_run(study):
    frame, found = drawn("gap_vs_robustness", study)
    points = np.concatenate([c.get_offsets() for axis in found.axes for c in axis.collections])
    assert len(points) == len(frame) == study["metrics"].drop_duplicates(list(RUN_KEY)).shape[0]
    assert sorted(points[:, 1]) == pytest.approx(sorted(100 * frame["robustness_drop"]))
    assert set(frame["attack"]) == {"pgd"}
    assert set(frame["eps"]) == {HEADLINE}
    caption = found.axes[0].texts[0].get_text()
    assert f"Spearman {frame['coefficient'].iloc[0]:+.2f}" in caption
    assert ("[" in caption) == (study["metrics"]["seed"].nunique() > 1), "one seed has no interval"


def test_gap_vs_robustness_gives_spearmans_coefficient(study):
    frame, _ = drawn("gap_vs_robustness", study)
    for arch, runs in frame.groupby("arch"):
        cells = runs.groupby(["forget", "method", "scope"])[["fairness_gap", "robustness_drop"]].mean()
        expected = spearmanr(cells["fairness_gap"], cells["robustness_drop"]).statistic
        assert runs["coefficient"].tolist() == pytest.approx([expected] * len(runs)), arch


def undefined(runs, named):
    """The frame of metrics of three seeds, in which metrics of the named kinds have no value in some runs."""
    frame = metrics(3)
    gone = frame.eval(runs) & frame["metric"].isin(named)
    return frame.assign(value=frame["value"].mask(gone), reason=frame["reason"].mask(gone, "not | defined"))


SHOWN = [
    *("ua", "mia_efficacy", "average_gap", "fairness_gap", "relative_fairness_gap_mean", "robust_accuracy"),
    *("robustness_drop", "relative_seconds", "relative_memory"),
]
SOME = "arch == 'vit' and method == 'cf' and scope == 'all' and seed == 1"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("runs", [SOME, "method == 'cf'", "method == 'retrain'", "seed >= 0"])
def test_values_that_are_not_defined_stop_neither_figures_nor_pages(runs, tmp_path):
    paths = written(undefined(runs, SHOWN), tmp_path)
    for figure in FIGURES:
        inputs = {need: paths[need] for need in ("radii", *plugins.load("figures", figure).NEEDS)}
        out = {kind: str(tmp_path / f"{figure}.{kind}") for kind in ("pdf", "png", "csv")}
        figure_stage(figure, **out, settings=replace(SETTINGS, headline_eps={}), **inputs)
    outputs = {name: tmp_path / name for name in ("csv", "markdown", "latex", "verdicts")}
    inputs = {kind: paths[kind] for kind in ("comparisons", "conjectures", "gates", "radii")}
    inputs["failures"] = tmp_path / "failures.parquet"
    tables.write(FAILURES, inputs["failures"], NO_FAILURES, {})
    inputs["composition"] = tmp_path / "composition.parquet"
    tables.write(COMPOSITION, inputs["composition"], COMPOSED, {})
    table_stage(**inputs, **outputs, settings=replace(SETTINGS, headline_eps={}))
    *_, shown, _ = rendered(outputs["verdicts"].read_text("utf-8"))[0]
    assert shown[0] == ["metric", "cells", "values", "reason"]
    assert {row[0] for row in shown[1:]} == set(SHOWN)
    assert {row[3] for row in shown[1:]} == {"not | defined"}


def test_what_rests_on_fewer_seeds_says_so(tmp_path):
    """In the main table, in the figure of runs, and on the page of verdicts."""
    study = read(written(undefined(SOME, ["ua", "relative_fairness_gap_mean"]), tmp_path))
    (shown,), (caption,) = rendered(to_markdown(main_table(study["comparisons"], NO_FAILURES, SETTINGS), SETTINGS))
    marked = {tuple(row[:3]): [cell for cell in row if "‡" in cell] for row in shown}
    assert {row: len(cells) for row, cells in marked.items() if cells} == {
        (f"ViT / {forget}", "CF", "all"): 2 for forget in SETTINGS.forgets
    }
    assert "mean over 2 to 3 seed(s)" in caption
    captions = [axis.texts[0].get_text() for axis in drawn("gap_vs_robustness", study)[1].axes]
    assert [text.endswith("1 runs without a value") for text in captions] == [False, False, True, True]
    *_, found, _ = rendered(pages(study, NO_FAILURES, SETTINGS))[0]
    assert found[1] == ["ua", "ViT ten cf-all, ViT class_3 cf-all", "2", "not | defined"]


@pytest.mark.parametrize("figure", FIGURES)
def test_what_was_not_measured_is_left_out(figure, three):
    """A study may name fewer metrics, such as no comparison with retraining beyond the figures'."""
    left_out = ["average_gap", "relative_memory", "class_disparity"]
    drawn(figure, {kind: f[~f["metric"].isin(left_out)] if "metric" in f else f for kind, f in three.items()})


def stored(path):
    """A CSV as the frame that was written: texts may be empty."""
    return pd.read_csv(path, dtype={"failed_gates": str}).fillna({"failed_gates": ""})


@pytest.mark.filterwarnings("error")  # such as a layout that does not fit
@pytest.mark.parametrize("figure", FIGURES)
def test_the_stage_writes_the_plotted_numbers(figure, studies, tmp_path):
    pdf, png, csv = (tmp_path / f"figure.{kind}" for kind in ("pdf", "png", "csv"))
    inputs = {need: studies[1][need] for need in ("radii", *plugins.load("figures", figure).NEEDS)}
    settings = replace(SETTINGS, headline_eps={})
    figure_stage(figure, pdf=str(pdf), png=str(png), csv=str(csv), settings=settings, **inputs)
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert not plt.get_fignums(), "closed again"
    expected = plugins.load("figures", figure).data(read(inputs), SETTINGS)
    pd.testing.assert_frame_equal(stored(csv), expected, check_dtype=False)


def test_the_stage_says_when_there_is_nothing_to_plot(studies, tmp_path):
    elsewhere = tmp_path / "radii.parquet"
    tables.write(RADII, elsewhere, {"threat_norm": ["linf"], "eps": [0.15], "headline": [True]}, {})
    inputs = {**studies[1], "radii": elsewhere}
    with pytest.raises(ValueError, match=r"'gap_vs_robustness' has nothing to plot; are its metrics in the config\?"):
        figure_stage("gap_vs_robustness", pdf="", png="", csv="", settings=SETTINGS, **inputs)


# --- the table ------------------------------------------------------------------------------------

COMPOSED = pd.DataFrame(
    [
        ("ten", "all", None, 100, 900, 300, 1.0, 1.0),
        *(("ten", "class", f"c{k}", 20 - k, 80 + k, 30, (20 - k) / 100, 0.1) for k in range(10)),
        *(("ten", "person", f"{HOSTILE} {k}", k, 90, 3, k / 100, 0.01) for k in range(1, 10)),
        ("ten", "person", None, 10, 90, 3, 0.1, 0.01),
        ("ten", "copies of", "forget", 2, 3, 0, 0.02, 0.005),
        ("ten", "copies of", "test", 0, 0, 0, 0.0, 0.0),
    ],
    columns=TABLES["composition"].schema.names,
)


def rendered(text):
    """The tables of a Markdown page as a reader sees them: rows of cells, the head first; and its other texts."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page_tables, others, row = [], [], None
    for token in parser.parse(text):
        if token.type == "table_open":
            page_tables.append([])
        elif token.type == "tr_open":
            row = []
            page_tables[-1].append(row)
        elif token.type == "inline":
            assert {child.type for child in token.children} <= {"text", "text_special"}, token.content
            shown = "".join(child.content for child in token.children)
            (others if row is None else row).append(shown)
        elif token.type == "table_close":
            row = None
    return page_tables, others


ESCAPES = {
    **{rf"\{character}": character for character in "&%$#_{}"},
    r"\^{}": "^",
    r"\textasciitilde{}": "~",
    r"\textbackslash{}": "\\",
    r"\ensuremath{<}": "<",
    r"\ensuremath{>}": ">",
    r"$^\dagger$": "†",
    r"$^\ddagger$": "‡",
    r"$\pm$": "±",
    "---": "—",
    "{[}": "[",
}


def typeset(text):
    """The rows of a LaTeX table as they are printed. Every special character must stand in one of ESCAPES."""
    rows = []
    for source in text.splitlines():
        if not source.endswith(r"\\"):
            continue
        printed = [""]
        for token in re.findall("|".join(map(re.escape, ESCAPES)) + "| & |.", source.removesuffix(r"\\")):
            assert token in ESCAPES or token == " & " or token not in "&%$#_{}^~\\", source
            printed.append("") if token == " & " else printed.append(printed.pop() + ESCAPES.get(token, token))
        assert not printed[0].strip().startswith("[") or source.strip().startswith("{[}")
        rows.append([cell.strip() for cell in printed])
    return rows


def test_main_table_is_scaled_and_ordered(study):
    frame = main_table(study["comparisons"], NO_FAILURES, SETTINGS)
    assert frame["arch"].drop_duplicates().tolist() == SETTINGS.archs
    found = frame.set_index([*CELL_KEY, "heading"])["mean"]
    source = study["comparisons"].query("arch == 'vit' and forget == 'ten' and method == 'cf' and scope == 'last'")
    assert found["vit", "ten", "cf", "last", "UA"] == pytest.approx(100 * source.query("metric == 'ua'")["mean"].item())
    robust = source.query(f"metric == 'robust_accuracy' and attack == 'pgd' and role == 'test' and eps == {HEADLINE}")
    assert found["vit", "ten", "cf", "last", "RobA"] == pytest.approx(100 * robust["mean"].item())
    time = source.query("metric == 'relative_seconds'")["mean"].item()
    assert found["vit", "ten", "cf", "last", "Time"] == pytest.approx(time)


@pytest.mark.parametrize("label", ["ResNet", HOSTILE, r"[1] \alpha", "1e5", " two\n lines "])
def test_both_pages_show_the_main_table(study, label):
    settings = replace(SETTINGS, labels={"resnet": label, "vit": "ViT"})
    frame = main_table(study["comparisons"], NO_FAILURES, settings)
    (shown,), (caption,) = rendered(to_markdown(frame, settings))
    assert typeset(to_latex(frame, settings)) == shown
    head, *rows = shown
    assert head == ["Model", "Method", "Scope", *(heading for _, heading, _, _ in COLUMNS)]
    printed = " ".join(label.split())
    assert [row[:3] for row in rows] == [
        [f"{arch} / {forget}", name(method), scope]
        for arch, forget, (method, scope) in itertools.product([printed, "ViT"], SETTINGS.forgets, CELLS)
    ]
    ua, count = frame[frame["heading"] == "UA"].iloc[0], frame["n"].iloc[0]
    half = f" ± {(ua['high'] - ua['low']) / 2:.2f}" if count > 1 else ""
    assert rows[0][3] == f"{ua['mean']:.2f}{half}"
    assert f"mean over {count} seed(s)" in caption


def test_main_table_as_latex_is_a_tabular(study):
    text = to_latex(main_table(study["comparisons"], NO_FAILURES, SETTINGS), SETTINGS)
    caption, begin, *_ = text.splitlines()
    assert caption.startswith("% UA to Avg. gap")
    assert begin == rf"\begin{{tabular}}{{lll{'r' * len(COLUMNS)}}}"
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}")] == [1] * 4


def test_a_number_behind_a_failed_gate_has_a_dagger(study):
    flagged = study["comparisons"].copy()
    hit = (flagged["attack"] == "pgd") & (flagged["method"] == "cf") & (flagged["scope"] == "all")
    flagged.loc[hit, "failed_gates"] = "losses, white_box"
    (shown,), (caption,) = rendered(to_markdown(main_table(flagged, NO_FAILURES, SETTINGS), SETTINGS))
    daggers = {(model, method, scope): sum("†" in cell for cell in row) for model, method, scope, *row in shown}
    assert {cell for cell, count in daggers.items() if count} == {
        (f"{arch} / {forget}", "CF", "all") for arch in ("ResNet", "ViT") for forget in SETTINGS.forgets
    }
    assert set(daggers.values()) == {0, 3}, "RobA, its gap, and that of AURC"
    assert caption.endswith("† failed a gate: losses, white_box.")
    assert "†" not in to_markdown(main_table(study["comparisons"], NO_FAILURES, SETTINGS), SETTINGS)
    axes = drawn("robustness", {**study, "comparisons": flagged})[1].axes
    assert [axis.get_title().endswith("gates failed: losses, white_box") for axis in axes] == [False] * 4 + [True] * 4


def test_runs_that_failed_are_shown(study):
    """A seed of one cell and all seeds of another."""
    count = study["metrics"]["seed"].nunique()
    compared = study["comparisons"].query("not (method == 'cf' and scope == 'last' and arch == 'vit')")
    lost = [("vit", forget, "cf", "last", seed, "nan") for forget in SETTINGS.forgets for seed in range(count)]
    lost = pd.DataFrame([*lost, ("resnet", "ten", "salun", "all", 9, "nan")], columns=NO_FAILURES.columns)
    frame = main_table(compared, lost, SETTINGS)
    (shown,), (caption,) = rendered(to_markdown(frame, SETTINGS))
    assert typeset(to_latex(frame, SETTINGS)) == shown
    rows = {tuple(row[:3]): row[3:] for row in shown}
    for forget in SETTINGS.forgets:
        assert set(rows[f"ViT / {forget}", "CF", "last"]) == {"—"}
    assert all(cell.endswith("‡") for cell in rows["ResNet / ten", "SalUn", "all"])
    assert sum("‡" in cell for row in rows.values() for cell in row) == len(COLUMNS)
    assert f"mean over {count} seed(s)" in caption
    assert caption.endswith("‡ without the seeds that failed or have no value, — all did: see the verdicts.")


def pages(study, failures, settings):
    return page(study["conjectures"], study["gates"], failures, study["comparisons"], COMPOSED, settings)


def test_table_stage_writes_its_four_files(studies, tmp_path):
    outputs = {name: tmp_path / name for name in ("csv", "markdown", "latex", "verdicts")}
    inputs = {kind: studies[3][kind] for kind in ("comparisons", "conjectures", "gates", "radii")}
    inputs["failures"] = tmp_path / "failures.parquet"
    tables.write(FAILURES, inputs["failures"], NO_FAILURES, {})
    inputs["composition"] = tmp_path / "composition.parquet"
    tables.write(TABLES["composition"], inputs["composition"], COMPOSED, {})
    table_stage(**inputs, **outputs, settings=replace(SETTINGS, headline_eps={}))
    study = read(inputs)
    frame = main_table(study["comparisons"], NO_FAILURES, SETTINGS)
    pd.testing.assert_frame_equal(stored(outputs["csv"]), frame, check_dtype=False)
    assert outputs["markdown"].read_text("utf-8") == to_markdown(frame, SETTINGS)
    assert outputs["latex"].read_text("utf-8") == to_latex(frame, SETTINGS)
    assert outputs["verdicts"].read_text("utf-8") == pages(study, NO_FAILURES, SETTINGS)


@pytest.mark.parametrize("label", ["ResNet", HOSTILE])
def test_page_of_verdicts(study, label):
    settings = replace(SETTINGS, labels={"resnet": label, "vit": "ViT"})
    lost = pd.DataFrame([("resnet", "ten", "cf", "all", 0, f"diverged | {HOSTILE}")], columns=NO_FAILURES.columns)
    (verdicts, failed, runs, composed), texts = rendered(pages(study, lost, settings))
    verdicts = pd.DataFrame(verdicts[1:], columns=verdicts[0])
    assert verdicts["verdict"].tolist() == study["conjectures"]["verdict"].tolist()
    assert verdicts["reason"].tolist() == study["conjectures"]["reason"].tolist()
    assert set(verdicts["model"]) == {label, "ViT"}
    ran = study["gates"][study["gates"]["passed"].notna()]
    assert f"{int(ran['passed'].sum())} of {len(ran)} checks passed." in texts
    assert "monotone" in [row[0] for row in failed], "random numbers are no honest curves"
    assert any(f"{label} ten cf-last" in row[3] for row in failed)
    assert any(text.startswith("Nothing in the study to compare with, or not measured: ") for text in texts)
    assert runs == [list(lost), [label, "ten", "cf", "all", "0", f"diverged | {HOSTILE}"]]
    page_tables, texts = rendered(pages({**study, "gates": study["gates"].assign(passed=True)}, NO_FAILURES, settings))
    assert len(page_tables) == 2
    assert "None." in texts
    assert composed[1:] == [
        ["ten", "all", "100", "900", "300", "100 %", "100 %"],
        ["ten", "copies of forget", "2", "3", "0", "2 %", "0.5 %"],
        *(["ten", f"class c{k}", f"{20 - k}", f"{80 + k}", "30", f"{20 - k} %", "10 %"] for k in range(3)),
        ["ten", "person without one", "10", "90", "3", "10 %", "1 %"],
        *(["ten", f"person {HOSTILE} {k}", f"{k}", "90", "3", f"{k} %", "1 %"] for k in (9, 8)),
        ["ten", "14 more values", "", "", "", "", ""],
    ], "ten lines of a set at most, the values that it forgets most of"


def test_copies_are_a_gate_of_all_runs(study):
    failing = study["gates"].assign(gate="copies", attack=None, against=None, value=3.0, limit=0.0, passed=False)
    (_, failed, _), _ = rendered(pages({**study, "gates": failing}, NO_FAILURES, SETTINGS))
    assert failed[1:] == [["copies", "", "", f"all that forget {', '.join(SETTINGS.forgets)}", "3 > 0"]]


# --- shared ---------------------------------------------------------------------------------------


def test_methods_keep_their_colour_and_differ():
    many = replace(SETTINGS, methods=["original", "retrain", *(f"m{i}" for i in range(16))]).colours
    assert len(set(many.values())) == 18
    assert many["original"] == SETTINGS.colours["original"]


def test_names():
    assert [name(method) for method in ("original", "retrain", "salun", "cf", "my_own")] == [
        *("Original", "Retrain", "SalUn", "CF", "MY-OWN")
    ]


def test_cells_come_in_the_order_of_the_study():
    mixed = pd.DataFrame({"arch": ["vit", "resnet", "vit"], "scope": ["all", "all", "last"], "x": [1, 2, 3]})
    assert cells(mixed, SETTINGS)["x"].tolist() == [2, 3, 1]


def test_settings_are_what_a_study_gives(config):
    given = Study(config).report_settings()
    assert ReportSettings(**given) == ReportSettings(**{**given, "headline_eps": {}})
    assert {*given, "headline_eps"} == {*asdict(SETTINGS)}


def test_escaped_text_is_one_line():
    assert markup.escape("a\n|b") == r"a \|b"
