"""Cost of making the model: time (the field's RTE), FLOPs, peak memory, trainable parameters.

FLOPs do not depend on the load of the machine, as seconds do.
"""

import pandas as pd

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows, no_value, why

METRICS = {
    "seconds": Metric("time", "min", 0, unit="s"),
    "cpu_seconds": Metric("CPU time", "min", 0, unit="s"),
    "peak_memory": Metric("peak tensor memory", "min", 0, unit="B"),
    "flops": Metric("floating-point operations", "min", 0),
    "trainable_parameters": Metric("trainable parameters", "min", 0),
    "relative_seconds": Metric("CPU or GPU time / retrain's", "min", 0),
    "relative_flops": Metric("FLOPs / retrain's", "min", 0),
    "relative_memory": Metric("peak tensor memory / retrain's", "min", 0),
}


UNKNOWN = "not known of a model that was made elsewhere"


def compute(run: Evidence) -> Rows:
    """As recorded; n is 1."""
    for name in ("seconds", "cpu_seconds", "peak_memory", "flops", "trainable_parameters"):
        if pd.notna(value := run.cost[name].iloc[0]):
            yield Row(name, float(value), 1)
        else:
            yield no_value(name, UNKNOWN, 1)


def compute_relative(run: Evidence, references: References) -> Rows:
    """Time is CPU seconds where the device is a CPU, which other jobs may share, else wall seconds, also for the time
    that a config gives for a model that was made elsewhere."""
    clock = "cpu_seconds" if run.cost["device"].iloc[0] == "cpu" else "seconds"
    parts = {"relative_seconds": clock, "relative_flops": "flops", "relative_memory": "peak_memory"}
    for name, part in parts.items():
        own, whole = run.value(part), references.retrain.value(part)
        if reason := why(run, references.retrain, part):
            yield no_value(name, reason, 1)
        elif not whole:
            yield no_value(name, f"exact retraining: {part} is 0", 1)
        else:
            yield Row(name, own / whole, 1)
