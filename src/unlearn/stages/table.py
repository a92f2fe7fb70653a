"""table: the main table and the page of verdicts."""

from pathlib import Path
from typing import Any

from unlearn.analysis.radii import headlines
from unlearn.io import tables
from unlearn.io.schema.comparisons import COMPARISONS
from unlearn.io.schema.conjectures import CONJECTURES
from unlearn.io.schema.failures import FAILURES
from unlearn.io.schema.gates import GATES
from unlearn.reports.main_table import main_table, to_latex, to_markdown
from unlearn.reports.verdicts import page


def table(
    comparisons: str,
    conjectures: str,
    gates: str,
    failures: str,
    radii: str,
    csv: str,
    markdown: str,
    latex: str,
    verdicts: str,
    settings: dict[str, Any],
) -> None:
    """The main table: full precision as CSV, rounded with intervals as Markdown and LaTeX; and the page
    of verdicts on the conjectures, of failed gates and of failed runs."""
    judged, gated = tables.read(CONJECTURES, conjectures), tables.read(GATES, gates)
    lost = tables.read(FAILURES, failures).to_pandas()
    settings = {**settings, "headline_eps": headlines(radii, settings["threat_norms"])}
    frame = main_table(tables.read(COMPARISONS, comparisons).to_pandas(), lost, settings)
    texts = {
        verdicts: page(judged.to_pandas(), gated.to_pandas(), lost, settings),
        markdown: to_markdown(frame, settings),
        latex: to_latex(frame, settings),
    }
    frame.to_csv(csv, index=False)
    for path, text in texts.items():
        Path(path).write_text(text)
