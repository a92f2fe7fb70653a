"""Figures, one file each.

A file holds ``NEEDS``, the names of the study-wide tables that it reads, ``MEASURED``, the metric files whose numbers
it plots, ``data(tables, settings)``, which returns a frame of exactly the plotted numbers, and
``draw(frame, settings)``, which returns a matplotlib Figure. ``tables`` maps names to frames, ``settings`` are
ReportSettings. Figures import from ``unlearn.api.figures`` and need neither torch nor models.
"""
