"""Figures. A file here has ``NEEDS`` (study tables), ``MEASURED`` (the metric files it plots),
``data(tables, settings) -> frame``, which gives exactly the plotted numbers, and
``draw(frame, settings) -> Figure``. No torch, no models. It imports from ``unlearn.api.figures``."""
