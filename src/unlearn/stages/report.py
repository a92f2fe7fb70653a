"""figure and table: from the study-wide tables to what a reader sees."""

from typing import Any

import pandas as pd

from unlearn import registry, schema, tables
from unlearn.figures import STYLE, plt
from unlearn.main_table import main_table, to_latex, to_markdown
from unlearn.radii import headlines
from unlearn.verdicts import page

FIGURED = {table.name: table for table in (schema.METRICS, schema.COMPARISONS, schema.CORRELATIONS)}


def figure(name: str, inputs: dict[str, str], pdf: str, png: str, csv: str, settings: dict[str, Any]) -> None:
    """Draw one figure; the CSV holds exactly the plotted numbers."""
    module = registry.load("figures", name)
    settings = {**settings, "headline_eps": headlines(inputs["grid"], settings["norms"])}
    frame = module.data(_read(inputs, module.NEEDS), settings)
    if frame.empty:
        raise ValueError(f"figure {name!r} has nothing to plot; are its metrics in the config?")
    with plt.rc_context(STYLE):
        drawn = module.draw(frame, settings)
        frame.to_csv(csv, index=False)
        drawn.savefig(png)
        drawn.savefig(pdf, metadata={"CreationDate": None})
        plt.close(drawn)


def table(
    comparisons: str,
    conjectures: str,
    gates: str,
    grid: str,
    csv: str,
    markdown: str,
    latex: str,
    verdicts: str,
    settings: dict[str, Any],
) -> None:
    """The main table: full precision as CSV, rounded with intervals as Markdown and LaTeX; and the page
    of verdicts on the conjectures and of failed gates."""
    with open(verdicts, "w") as file:
        file.write(
            page(
                tables.read(schema.CONJECTURES, conjectures).to_pandas(),
                tables.read(schema.GATES, gates).to_pandas(),
                settings,
            )
        )
    settings = {**settings, "headline_eps": headlines(grid, settings["norms"])}
    frame = main_table(tables.read(schema.COMPARISONS, comparisons).to_pandas(), settings)
    frame.to_csv(csv, index=False)
    with open(markdown, "w") as file:
        file.write(to_markdown(frame, settings))
    with open(latex, "w") as file:
        file.write(to_latex(frame, settings))


def _read(inputs: dict[str, str], needs: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    return {need: tables.read(FIGURED[need], inputs[need]).to_pandas() for need in needs}
