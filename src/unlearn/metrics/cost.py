"""Cost of making the model: time (the field's RTE), peak memory, parameters that may move."""

from unlearn.metrics import Evidence, Metric, Row, Rows

METRICS = {
    "seconds": Metric("time", "min", 0, unit="s"),
    "cpu_seconds": Metric("CPU time", "min", 0, unit="s"),
    "peak_memory": Metric("peak tensor memory", "min", 0, unit="B"),
    "trainable_parameters": Metric("trainable parameters", "min", 0),
    "relative_seconds": Metric("CPU or GPU time / retrain's", "min", 0),
    "relative_memory": Metric("peak tensor memory / retrain's", "min", 0),
}


def compute(run: Evidence) -> Rows:
    for name in ("seconds", "cpu_seconds", "peak_memory", "trainable_parameters"):
        yield Row(name, float(run.cost[name].iloc[0]), 1)


def compute_relative(run: Evidence, reference: Evidence) -> Rows:
    """CPU seconds where the device is a CPU (other jobs share it), else wall seconds."""
    clock = "cpu_seconds" if run.cost["device"].iloc[0] == "cpu" else "seconds"
    yield Row("relative_seconds", run.value(clock) / reference.value(clock), 1)
    yield Row("relative_memory", run.value("peak_memory") / reference.value("peak_memory"), 1)
