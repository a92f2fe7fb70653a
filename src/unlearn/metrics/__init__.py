"""Metrics. A file here has ``METRICS`` (name → Metric), and ``compute(run)`` or, for metrics that
compare with exact retraining or the original, ``compute_relative(run, references)``; both yield Rows.
``REQUIRES`` names metric files that it builds on, ``ATTACKS`` attacks without which it has nothing to
say. Which rows there are must not depend on the values: a comparison needs the same rows of both sides. No
torch. It imports from ``unlearn.api.metrics``.

Accuracies are shares in [0, 1]. Where a whole class is forgotten, "test" means the test images of
the other classes: the forgotten class has its own metric, UA.
"""
