"""The cost of a computation: its time, its floating-point operations and its peak of tensor memory.

What is measured is the method's call alone, without loading, saving and evaluation (RTE in the literature).

Peak memory is the largest sum of bytes of tensor storage alive at once: the model, gradients, optimiser state,
activations and everything that the method makes, as teachers and masks; not what was there before, as the images that
the method is given. A dispatch mode sees each operator, counts the storages that it makes and is told when one is
freed, by Python or by autograd. So the number is the same on a CPU and a GPU, and does not depend on other jobs of the
process. It does not hold what is no tensor's storage: workspaces inside of operators, and the allocator's rounding.

FLOPs are those of matrix products, convolutions and attention, by PyTorch's formulas (``torch.utils.flop_counter``), a
multiplication and an addition as two. They do not depend on the load of the machine, as seconds do.

Operators are watched everywhere but in the later steps of a phase, which repeat its first ones: a phase's steps with
equally many images make equally large tensors, and take equally many FLOPs and equally long. So FLOPs are multiplied by
the number of steps, and where a phase has steps that are not watched, their mean time stands for that of the watched.
"""

import gc
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import torch
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from unlearn.models.images import ImageSet

STEPS_WATCHED = 2  # the second is the first that finds the optimiser's state

aten = torch.ops.aten
FLOPS = {
    **flop_counter.flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu: flop_counter.sdpa_flop,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_counter.sdpa_backward_flop,
}


class Meter:
    """A context manager for the whole work; ``step()`` gives one for each step of it.

    ``given``: the images, which do not count.
    """

    def __init__(self, model: torch.nn.Module, device: torch.device, given: Iterable[ImageSet] = ()):
        self.device, self.model, self.given = device, model, given
        self.seconds = self.cpu_seconds = 0.0
        self.operators = Operators()
        self.phases: dict[str, Phase] = {}

    @property
    def peak_memory(self) -> int:
        """Bytes."""
        return self.operators.peak

    @property
    def flops(self) -> int:
        return self.operators.flops + round(sum(phase.flops_unwatched for phase in self.phases.values()))

    def __enter__(self) -> "Meter":
        gc.freeze()  # what was there before is neither collected nor searched
        self.collects = gc.isenabled()
        gc.disable()
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            self.operators.count(tensor)
        for images in self.given:
            for tensor in vars(images).values():
                self.operators.count(tensor, size=0)
        self.operators.__enter__()
        self.started = self._now()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds, self.cpu_seconds = self._elapsed()
        self.operators.__exit__(*error)
        self.operators.forget()
        gc.unfreeze()
        if self.collects:
            gc.enable()

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def _elapsed(self) -> tuple[float, float]:
        """Wall and CPU seconds, without what watching took."""
        return tuple(
            now - start - sum(phase.extra(clock) for phase in self.phases.values())
            for clock, (now, start) in enumerate(zip(self._now(), self.started, strict=True))
        )

    def state_dict(self) -> dict[str, Any]:
        """All that was measured so far, for a job that may be killed and resumed."""
        gross = [now - start for now, start in zip(self._now(), self.started, strict=True)]
        phases = {name: vars(phase) for name, phase in self.phases.items()}
        return {"spent": gross, "peak": self.operators.peak, "flops": self.operators.flops, "phases": phases}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state. What the job took to get back there is not counted."""
        self.started = tuple(now - spent for now, spent in zip(self._now(), state["spent"], strict=True))
        self.operators.peak, self.operators.flops = state["peak"], state["flops"]
        self.phases = {name: Phase(**phase) for name, phase in state["phases"].items()}

    def step(self, phase: str, images: int = 0) -> AbstractContextManager:
        """Around one step, on so many ``images``, of a phase with a name such as "forget"."""
        found = self.phases.setdefault(f"{phase} {images}", Phase())
        return self._watched(found) if found.watched < STEPS_WATCHED else self._unwatched(found)

    @contextmanager
    def _watched(self, phase: "Phase") -> Iterator[None]:
        # Collected here and at no other time while operators are watched, so that the peak does not depend on when.
        gc.collect()
        self.operators.search()
        started, flops = self._now(), self.operators.flops
        yield
        phase.add(started, self._now(), watched=True)
        phase.flops += self.operators.flops - flops

    @contextmanager
    def _unwatched(self, phase: "Phase") -> Iterator[None]:
        with _disable_current_modes():
            if self.collects:
                gc.enable()
            started = time.perf_counter(), time.process_time()
            yield
            phase.add(started, (time.perf_counter(), time.process_time()), watched=False)
            gc.disable()


class Phase:
    """What the steps of one kind took: their number, wall and CPU seconds, and the FLOPs of the watched ones."""

    def __init__(self, watched: int = 0, others: int = 0, flops: int = 0, seconds: Any = None):
        self.watched, self.others, self.flops = watched, others, flops
        self.seconds = seconds or [[0.0, 0.0], [0.0, 0.0]]  # [watched or not][wall, CPU]

    def add(self, started: tuple[float, float], ended: tuple[float, float], watched: bool) -> None:
        if watched:
            self.watched += 1
        else:
            self.others += 1
        spent = self.seconds[0 if watched else 1]
        spent[:] = [total + end - start for total, start, end in zip(spent, started, ended, strict=True)]

    @property
    def flops_unwatched(self) -> float:
        return self.flops / self.watched * self.others if self.watched else 0.0

    def extra(self, clock: int) -> float:
        """Seconds that the watched steps took beyond as many others; 0 where there are no others."""
        if not self.others:
            return 0.0
        return self.seconds[0][clock] - self.watched * self.seconds[1][clock] / self.others


class Operators(TorchDispatchMode):
    """While it is active: the bytes of the storages made and alive, their peak, and the FLOPs of all operators."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = self.flops = 0
        self.storages: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if formula := FLOPS.get(func._overloadpacket):
            self.flops += formula(*args, **kwargs, out_val=out)
        outputs = out if isinstance(out, tuple) else (out,)
        for value, fresh in zip(outputs, makes(func), strict=False):  # an operator may return nothing
            if fresh:
                for tensor in value if isinstance(value, list) else (value,):
                    if isinstance(tensor, torch.Tensor):
                        self.count(tensor)
        return out

    def count(self, tensor: torch.Tensor, size: int | None = None) -> None:
        """Count the storage of a tensor as alive, once, until it is freed, with its ``size`` in bytes or another."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.storages:
            return
        size = storage.nbytes() if size is None else size

        def freed(_: weakref.ref) -> None:
            if self.storages.pop(key, None) is not None:
                self.alive -= size

        self.storages[key] = weakref.ref(storage, freed)
        self.alive += size
        self.peak = max(self.peak, self.alive)

    def search(self) -> None:
        """Count the tensors that Python has got since ``gc.freeze`` in another way than from a watched operator: kept
        by a step that was not watched, or read from a file."""
        for found in gc.get_objects():
            if issubclass(type(found), torch.Tensor) and not is_functorch_wrapped_tensor(found):
                for tensor in (found, found.grad) if found.is_leaf else (found,):
                    if tensor is not None:
                        self.count(tensor)

    def forget(self) -> None:
        """Count no longer what is alive."""
        self.storages.clear()
        self.alive = 0


@cache
def makes(func: torch._ops.OpOverload) -> tuple[bool, ...]:
    """Which outputs of an operator have a storage of their own; the others are views, or inputs changed in place."""
    fresh = tuple(found.alias_info is None for found in func._schema.returns)
    return tuple(True for _ in fresh) if func is aten.lift_fresh.default else fresh
