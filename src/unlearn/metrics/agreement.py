"""Agreement with exact retraining: the share of images for which both models predict the same class.

Right or wrong does not matter. Two retrainings with different seeds disagree as well, so only exact retraining itself
has agreement 1.
"""

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows

METRICS = {"agreement": Metric("agreement with retrain", "max", 0, 1)}


def compute_relative(run: Evidence, references: References) -> Rows:
    """Per role; n counts images."""
    for role in ("forget", "retain", "test"):
        _, own, exact = run.beside(references.retrain, role)
        yield Row("agreement", float((own.argmax(1) == exact.argmax(1)).mean()), len(own), role=role)
