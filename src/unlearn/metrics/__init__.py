"""Metrics, one file each.

A file holds ``METRICS`` (name → Metric), and ``compute(run)`` or, for metrics that compare with exact retraining or the
original, ``compute_relative(run, references)``; both yield Rows. ``REQUIRES`` names the metric files whose values it
uses, ``ATTACKS`` the attacks that it needs, ``NEEDS`` the tables of a run that are made only where a metric of the
study reads them: features, relearning. Which rows a metric yields must not depend on the values, since a
comparison needs the same rows on both sides: a value that is not defined is a row without a value and with a reason
(``no_value``). Metrics import from ``unlearn.api.metrics`` and need no torch.

Accuracies are shares in [0, 1]. Where a whole class is forgotten, "test" means the test images of the other classes:
the forgotten class has its own metric, UA.
"""
