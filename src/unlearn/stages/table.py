"""table: the main table and the page of verdicts."""

from dataclasses import replace
from pathlib import Path

from unlearn.analysis.radii import headlines
from unlearn.api.figures import ReportSettings
from unlearn.io import tables
from unlearn.io.schema.comparisons import COMPARISONS
from unlearn.io.schema.composition import COMPOSITION
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
    composition: str,
    csv: str,
    markdown: str,
    latex: str,
    verdicts: str,
    settings: ReportSettings,
) -> None:
    """The main table: full precision as CSV, rounded with intervals as Markdown and LaTeX; and the page of verdicts on
    the claims, on gates and runs that failed, on values that are not defined, and on what the forget sets are made
    of."""
    settings = replace(settings, headline_eps=headlines(radii, settings.threat_norms))
    compared, judged, gated, failed, composed = (
        tables.read(declared, path).to_pandas()
        for declared, path in (
            (COMPARISONS, comparisons),
            (CONJECTURES, conjectures),
            (GATES, gates),
            (FAILURES, failures),
            (COMPOSITION, composition),
        )
    )
    frame = main_table(compared, failed, settings)
    texts = {
        markdown: to_markdown(frame, settings),
        latex: to_latex(frame, settings),
        verdicts: page(judged, gated, failed, compared, composed, settings),
    }
    frame.to_csv(csv, index=False)
    for path, text in texts.items():
        Path(path).write_text(text, encoding="utf-8")
