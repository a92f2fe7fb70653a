"""What a computation costs: time, and the peak of tensor memory.

Time is that of the method alone, without loading, saving and evaluation (the field's RTE). Memory
on CUDA is the caching allocator's peak. On a CPU the resident set of a small job is 98 % libraries,
so allocations are counted instead, exactly, during the first steps of each phase (later steps
repeat them), on top of the model's own size.
"""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

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
        self.before = 0  # peak on a CUDA device before the job was killed

    def __enter__(self) -> "Meter":
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            self.peak_memory = max(self.before, torch.cuda.max_memory_allocated())
        self.seconds, self.cpu_seconds = self._elapsed()

    def _elapsed(self) -> tuple[float, float]:
        return time.perf_counter() - self.started[0], time.process_time() - self.started[1]

    def state_dict(self) -> dict[str, Any]:
        """What was spent and seen so far, for a job that may be killed."""
        seconds, cpu_seconds = self._elapsed()
        peak = max(self.before, torch.cuda.max_memory_allocated()) if self.device.type == "cuda" else self.peak_memory
        return {"spent": (seconds, cpu_seconds), "live": self.live, "peak": peak, "steps": dict(self.steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there: what was spent again on the way back is not counted twice."""
        seconds, cpu_seconds = state["spent"]
        self.started = time.perf_counter() - seconds, time.process_time() - cpu_seconds
        self.live, self.peak_memory, self.steps = state["live"], state["peak"], dict(state["steps"])
        self.before = state["peak"]

    def step(self, phase: str) -> AbstractContextManager:
        """Watch memory during the first steps of a phase (a name such as "forget")."""
        self.steps[phase] = self.steps.get(phase, 0) + 1
        return nullcontext() if self.device.type == "cuda" or self.steps[phase] > STEPS_WATCHED else self._watch()

    @contextmanager
    def _watch(self) -> Iterator[None]:
        # The cycle collector runs at any time, and would free what an earlier job of this process has left.
        collects = gc.isenabled()
        gc.disable()
        try:
            with profile(profile_memory=True) as recorded:
                yield
        finally:
            if collects:
                gc.enable()
        events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
        for event in sorted(events, key=lambda event: event.start_ns()):
            self.live += event.nbytes()
            self.peak_memory = max(self.peak_memory, self.live)
