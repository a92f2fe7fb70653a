"""figure: one figure from the tables of the whole study."""

from typing import Any

import pandas as pd

from unlearn.analysis.radii import headlines
from unlearn.api.figures import STYLE, Figure, FigureError, plt
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.schema.comparisons import COMPARISONS
from unlearn.io.schema.correlations import CORRELATIONS
from unlearn.io.schema.metrics import METRICS

FIGURED = {table.name: table for table in (METRICS, COMPARISONS, CORRELATIONS)}


def figure(name: str, pdf: str, png: str, csv: str, settings: dict[str, Any], **inputs: str) -> None:
    """Draw one figure from the study's tables, ``inputs``; the CSV holds exactly the plotted numbers.

    Raises FigureError where there are none.
    """
    module = plugins.load("figures", name)
    settings = {**settings, "headline_eps": headlines(inputs["radii"], settings["threat_norms"])}
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


def _read(inputs: dict[str, str], needs: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    return {need: tables.read(FIGURED[need], inputs[need]).to_pandas() for need in needs}
