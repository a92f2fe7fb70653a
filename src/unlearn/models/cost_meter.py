"""The cost of a computation: its time and its peak of tensor memory.

The time is that of the method alone, without loading, saving and evaluation (RTE in the literature). The memory on CUDA
is the peak of the caching allocator. On a CPU 98 % of the resident set of a small job is libraries, so the meter counts
allocations instead: exactly, during the first steps of each phase, on top of the model's own size. Later steps of a
phase repeat these allocations.
"""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes to stderr at every use otherwise

import torch
from torch.autograd.profiler import profile

STEPS_WATCHED = 2


class Meter:
    """A context manager for the whole work; ``step()`` gives one for each step of it."""

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
        """Time and memory so far, for a job that may be killed and resumed."""
        seconds, cpu_seconds = self._elapsed()
        peak = max(self.before, torch.cuda.max_memory_allocated()) if self.device.type == "cuda" else self.peak_memory
        return {"spent": (seconds, cpu_seconds), "live": self.live, "peak": peak, "steps": dict(self.steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state. The time that the job took to get back there is not counted."""
        seconds, cpu_seconds = state["spent"]
        self.started = time.perf_counter() - seconds, time.process_time() - cpu_seconds
        self.live, self.peak_memory, self.steps = state["live"], state["peak"], dict(state["steps"])
        self.before = state["peak"]

    def step(self, phase: str) -> AbstractContextManager:
        """Around one step of a phase with a name such as "forget". Watches memory in the first steps of each phase."""
        self.steps[phase] = self.steps.get(phase, 0) + 1
        return nullcontext() if self.device.type == "cuda" or self.steps[phase] > STEPS_WATCHED else self._watch()

    @contextmanager
    def _watch(self) -> Iterator[None]:
        # The cycle collector may run at any time, and would free memory that earlier work in this process has left.
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
