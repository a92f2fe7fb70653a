"""figure: one figure from the tables of the whole study."""

from dataclasses import replace

import pandas as pd

from unlearn.analysis.radii import headlines
from unlearn.api.figures import STYLE, Figure, FigureError, ReportSettings, plt
from unlearn.config import plugins
from unlearn.io import tables


def figure(name: str, pdf: str, png: str, csv: str, settings: ReportSettings, **inputs: str) -> None:
    """Draw a figure. ``inputs``: the tables that it needs, and radii; the CSV holds exactly the plotted numbers.

    Raises FigureError where there are none.
    """
    module = plugins.load("figures", name)
    settings = replace(settings, headline_eps=headlines(inputs["radii"], settings.threat_norms))
    frames = {need: tables.read(tables.named(need), inputs[need]).to_pandas() for need in module.NEEDS}
    frame = module.data(frames, settings)
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
