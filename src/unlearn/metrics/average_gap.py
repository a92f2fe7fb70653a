"""Average gap: mean over UA, RA, TA and MIA-efficacy of |run - retrain|.

Fan et al. 2024 (SalUn, Table 1), here between runs of the same seed, and in [0, 1] where the paper has percentage
points.
"""

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows, why

REQUIRES = ("accuracy", "mia_efficacy")
METRICS = {"average_gap": Metric("average gap", "min", 0, 1)}

PARTS = ("ua", "ra", "ta", "mia_efficacy")


def compute_relative(run: Evidence, references: References) -> Rows:
    """n counts the parts."""
    gaps = [abs(run.value(part) - references.retrain.value(part)) for part in PARTS]
    yield Row("average_gap", sum(gaps) / len(gaps), len(gaps), reason=why(run, references.retrain, *PARTS))
