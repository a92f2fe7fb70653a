"""What a computation costs: time, and the peak of tensor memory.

Time is that of the method alone, without loading, saving and evaluation (the field's RTE). Memory
on CUDA is the caching allocator's peak. On a CPU the resident set of a small job is 98 % libraries,
so allocations are counted instead, exactly, during the first steps of each phase (later steps
repeat them), on top of the model's own size.
"""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to stderr on every use

import torch
from torch.autograd.profiler import profile

STEPS_WATCHED = 2


class Meter:
    """Use as a context manager around the work; ``step()`` around each of its steps."""

    def __init__(self, model: torch.nn.Module, device: torch.device):
        self.device = device
        self.live = sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))
        self.peak_memory = self.live
        self.steps: dict[str, int] = {}
        self.seconds = self.cpu_seconds = 0.0

    def __enter__(self) -> "Meter":
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            self.peak_memory = torch.cuda.max_memory_allocated()
        self.seconds = time.perf_counter() - self.started[0]
        self.cpu_seconds = time.process_time() - self.started[1]

    def step(self, phase: str) -> AbstractContextManager:
        """Watch memory during the first steps of a phase (a name such as "forget")."""
        self.steps[phase] = self.steps.get(phase, 0) + 1
        return nullcontext() if self.device.type == "cuda" or self.steps[phase] > STEPS_WATCHED else self._watch()

    @contextmanager
    def _watch(self) -> Iterator[None]:
        with profile(profile_memory=True) as recorded:
            yield
        events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
        for event in sorted(events, key=lambda event: event.start_ns()):
            self.live += event.nbytes()
            self.peak_memory = max(self.peak_memory, self.live)
