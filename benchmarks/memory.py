"""What the cost meter says, against what it does not use: PyTorch's allocator, FLOP counter and process time.

`PYTHONPATH=src python benchmarks/memory.py`: every method once on a ResNet of 1.2 million weights and 40 random images
of CIFAR's size: peak bytes of the meter and of the allocator of the CPU (the profiler's events of the whole call), and
FLOPs of the meter and of PyTorch's counter, which watches every step. A CPU minute.

`--overhead 7`: CPU seconds of CF with the meter over those without, so many pairs in turn, on the ResNet of digits and
on this one; and what the meter says of the time over what the call without it took.
"""

import argparse
import bisect
import gc
import os
import statistics
import time
from contextlib import nullcontext

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes to stderr at every use otherwise

import torch
from torch.autograd.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from unlearn.config import plugins
from unlearn.models.classifier import Spec, create
from unlearn.models.cost_meter import Meter
from unlearn.models.images import ImageSet
from unlearn.training.context import MethodContext

CPU = torch.device("cpu")
NORMALIZE = {"mean": [0.5], "std": [0.5]}
LARGE = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]}
SMALL = {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}
QUICK = {
    "epochs": 1,
    "repair_epochs": 1,
    "noise_images": 16,
    "noise_steps": 3,
    "noise_repeats": 2,
    "batch_size": 16,
    "forget_batch_size": 2,
    "iterations": 3,
    "samples": 12,
}
FEWER = {"fisher": {"batch_size": 4}, "bs": {"batch_size": 2}, "ga": {"batch_size": 2}}


def resnet(args: dict[str, list[int]], shape: tuple[int, int, int]) -> Spec:
    return Spec(model="resnet18", args=args, stem="cifar", normalize=NORMALIZE, classes=10, shape=shape)


def images(count: int, shape: tuple[int, int, int]) -> ImageSet:
    """Random images, classes in turn."""
    pixels = torch.randint(256, (count, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet(torch.arange(count), pixels, torch.arange(count) % 10)


def called(method: str, spec: Spec, found: ImageSet, meter_of, settings: dict) -> tuple:
    """A method called on a fresh model and the images, of which it forgets class 3, within the context manager that
    ``meter_of(model, context)`` gives: that, and the model."""
    plugin, gone = plugins.load("methods", method), found.labels == 3
    sets = {"retain": found.select(~gone), "forget": found.select(gone)}
    context = MethodContext(0, spec, {role: sets[role] for role in plugin.DATA_ROLES}, CPU)
    known = plugin.Settings.model_fields
    own = plugin.Settings(**{key: value for key, value in settings.items() if key in known})
    model = create(spec, 0)
    with meter_of(model, context) as meter:
        context.meter = meter if isinstance(meter, Meter) else None
        plugin.unlearn(model, context, own)
    return meter, model


def measure(model: torch.nn.Module, context: MethodContext) -> Meter:
    return Meter(model, CPU, context.data.values())


class OneModule:
    """Stands for the counter's tracker of modules, which fails on autograd.grad."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def counter_of(*_: object) -> FlopCounterMode:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = OneModule()
    return counter


def allocated(recorded: profile, model: torch.nn.Module) -> tuple[int, int]:
    """Peak bytes of the CPU's allocator while ``recorded``, by its own events, on top of the model: of all, and of what
    is alive when no convolution is at work, so without the workspace inside of one."""
    spans, events = [], []
    for event in recorded.kineto_results.events():
        if event.name() == "[memory]":
            events.append((event.start_ns(), event.nbytes()))
        elif event.name() in ("aten::convolution", "aten::convolution_backward"):
            spans.append((event.start_ns(), event.start_ns() + event.duration_ns()))
    spans.sort()
    size = peak = outside = sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))
    for time_ns, change in sorted(events):
        before = bisect.bisect_right(spans, (time_ns, float("inf"))) - 1
        working = before >= 0 and time_ns <= spans[before][1]
        if not working:  # the last event may have been the end of one
            outside = max(outside, size, size + change)
        size += change
        peak = max(peak, size)
    return peak, outside


def table() -> None:
    spec, found = resnet(LARGE, (3, 32, 32)), images(40, (3, 32, 32))
    print("| method | meter, MB | allocator, MB | ratio | in convolutions too, MB | meter, GFLOP | counter, GFLOP |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for method in plugins.names("methods"):
        settings = QUICK | FEWER.get(method, {})
        meter, _ = called(method, spec, found, measure, settings)
        gc.collect()
        peak, truth = allocated(*called(method, spec, found, lambda *_: profile(profile_memory=True), settings))
        counter, _ = called(method, spec, found, counter_of, settings)
        flops = counter.get_total_flops()
        print(
            f"| `{method}` | {meter.peak_memory / 1e6:.1f} | {truth / 1e6:.1f} | {meter.peak_memory / truth:.3f} "
            f"| {peak / 1e6:.1f} | {meter.flops / 1e9:.2f} | {flops / 1e9:.2f} |",
            flush=True,
        )


def overhead(pairs: int) -> None:
    print("| model | steps | with / without the meter | the meter's seconds / without it |")
    print("|---|---:|---:|---:|")
    for label, args, shape, count, epochs, size in (
        ("digits' ResNet-10", SMALL, (1, 8, 8), 1347, 5, 64),
        ("1.2 million weights, 32 x 32", LARGE, (3, 32, 32), 160, 1, 16),
    ):
        spec, found, settings = resnet(args, shape), images(count, shape), {"epochs": epochs, "batch_size": size}

        def spent(meter_of, spec=spec, found=found, settings=settings):
            started = time.process_time()
            meter, _ = called("cf", spec, found, meter_of, settings)
            return time.process_time() - started, meter

        spent(measure)
        runs = [(spent(lambda *_: nullcontext()), spent(measure)) for _ in range(pairs)]
        gross = [with_it[0] / without[0] for without, with_it in runs]
        net = [with_it[1].cpu_seconds / without[0] for without, with_it in runs]
        steps = epochs * -(-int(count * 0.9) // size)
        print(f"| {label} | {steps} | {of(gross)} | {of(net)} |", flush=True)


def of(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--overhead", type=int, metavar="PAIRS")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    overhead(chosen.overhead) if chosen.overhead else table()
