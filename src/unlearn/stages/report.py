"""figure and table: from the study-wide tables to what a reader sees."""

from pathlib import Path
from typing import Any

import pandas as pd

from unlearn import registry, schema, tables
from unlearn.figures import STYLE, Figure, FigureError, plt
from unlearn.main_table import main_table, to_latex, to_markdown
from unlearn.radii import headlines
from unlearn.verdicts import page

FIGURED = {table.name: table for table in (schema.METRICS, schema.COMPARISONS, schema.CORRELATIONS)}


def figure(name: str, pdf: str, png: str, csv: str, settings: dict[str, Any], **inputs: str) -> None:
    """Draw one figure from the study's tables, ``inputs``; the CSV holds exactly the plotted numbers.

    Raises FigureError where there are none.
    """
    module = registry.load("figures", name)
    settings = {**settings, "headline_eps": headlines(inputs["grid"], settings["norms"])}
    frame = module.data(_read(inputs, module.NEEDS), settings)
    if not isinstance(frame, pd.DataFrame) or frame.empty:
        raise FigureError(f"figure {name!r} has nothing to plot; are its metrics in the config?")
    with plt.rc_context(STYLE):
        drawn = module.draw(frame, settings)
        if not isinstance(drawn, Figure):
            raise FigureError(f"figure {name!r}: draw gives a {type(drawn).__name__}, must give a Figure")
        frame.to_csv(csv, index=False)
        drawn.savefig(png)
        drawn.savefig(pdf, metadata={"CreationDate": None})
        plt.close(drawn)


def table(
    comparisons: str,
    conjectures: str,
    gates: str,
    failures: str,
    grid: str,
    csv: str,
    markdown: str,
    latex: str,
    verdicts: str,
    settings: dict[str, Any],
) -> None:
    """The main table: full precision as CSV, rounded with intervals as Markdown and LaTeX; and the page
    of verdicts on the conjectures, of failed gates and of failed runs."""
    declared = (schema.CONJECTURES, schema.GATES, schema.FAILURES, schema.COMPARISONS)
    paths = (conjectures, gates, failures, comparisons)
    found = {t.name: tables.read(t, path).to_pandas() for t, path in zip(declared, paths, strict=True)}
    settings = {**settings, "headline_eps": headlines(grid, settings["norms"])}
    frame = main_table(found["comparisons"], found["failures"], settings)
    texts = {
        verdicts: page(found["conjectures"], found["gates"], found["failures"], settings),
        markdown: to_markdown(frame, settings),
        latex: to_latex(frame, settings),
    }
    frame.to_csv(csv, index=False)
    for path, text in texts.items():
        Path(path).write_text(text)


def _read(inputs: dict[str, str], needs: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    return {need: tables.read(FIGURED[need], inputs[need]).to_pandas() for need in needs}
