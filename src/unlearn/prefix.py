"""The frozen prefix, run once: what lies before the first moving layer is stored per image and
replayed in later epochs.

Where images are not augmented, a frozen prefix in evaluation mode gives the same features in every
epoch. timm models share no structure to cut at, so the cut is found by watching one forward pass:
of the modules that end before the first moving one begins, the outermost are replaced, the last by
its stored output and the others by zeros of the right shape that take no memory. Whether that is
all that the rest of the model reads is not assumed but tried on that first batch; a model that
fails (skip connections over the cut) runs in full.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unlearn import scopes
from unlearn.job import Batch, Job
from unlearn.models import Classifier

log = logging.getLogger("unlearn")


class Prefix:
    """Use ``replay(batch)`` around every step of a training loop on ``model``."""

    def __init__(self, model: Classifier, job: Job, epochs: int):
        self.model, self.job = model, job
        self.usable = epochs > 1 and job.scope != "all" and not any(job.augment.values())
        self.modules: list[nn.Module] | None = None
        self.shapes: list[torch.Size] = []
        self.stored: dict[str, Tensor] = {}
        self.known: dict[str, Tensor] = {}

    @contextmanager
    def replay(self, batch: Batch) -> Iterator[None]:
        """Within it the model runs ``batch.x``, and only that, from stored features where it can."""
        if self.usable and self.modules is None:
            self.usable = self._find(batch)
        rows = batch.rows
        if not self.usable or rows is None or batch.role not in self.stored:
            yield
            return
        run = self._from_store if bool(self.known[batch.role][rows].all()) else self._into_store
        forward = self.model.forward
        self.model.forward = lambda x: run(batch, rows, forward) if x is batch.x else forward(x)
        try:
            yield
        finally:
            del self.model.forward

    @torch.no_grad()
    def refill(self, batches: Iterable[Batch]) -> None:
        """Store again, from the same batches, what was stored before the job was killed: features made in
        other batches can differ in the last bit. The model must be as it was at the start, but for what moves."""
        for batch in batches if self.usable else ():
            if self.modules is None:
                self.usable = self._find(batch)
            rows = batch.rows
            if not self.usable or all(known.all() for known in self.known.values()):
                break
            if rows is not None and batch.role in self.stored and not self.known[batch.role][rows].all():
                self.model.eval()  # frozen layers are so in training; the moving ones must not learn from this
                with self.job.autocast():
                    self._into_store(batch, rows, self.model.forward)

    def _from_store(self, batch: Batch, rows: Tensor, forward) -> Tensor:
        with self._stubs(self.stored[batch.role][rows]):
            return forward(batch.x)

    def _into_store(self, batch: Batch, rows: Tensor, forward) -> Tensor:
        def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            self.stored[batch.role][rows] = output.detach()

        handle = self.modules[-1].register_forward_hook(keep)
        try:
            logits = forward(batch.x)
        finally:
            handle.remove()
        self.known[batch.role][rows] = True
        return logits

    @contextmanager
    def _stubs(self, features: Tensor) -> Iterator[None]:
        zero = features.new_zeros(())
        outputs = [zero.expand(len(features), *shape[1:]) for shape in self.shapes[:-1]] + [features]
        for module, output in zip(self.modules, outputs, strict=True):
            module.forward = lambda *_, output=output, **__: output
        try:
            yield
        finally:
            for module in self.modules:
                del module.forward

    @torch.no_grad()
    def _find(self, batch: Batch) -> bool:
        """Find the cut and make room; False where there is none, or not enough room."""
        self.model.eval()
        try:
            with self.job.autocast():
                logits, found = watch(self.model, batch.x)
                self.modules = [module for module, _ in found]
                self.shapes = [output.shape for _, output in found]
                if not found or any(shape[:1] != batch.x.shape[:1] for shape in self.shapes):
                    return False
                features = found[-1][1]
                size = features[0].nbytes * sum(len(images) for images in self.job.data.values())
                with self._stubs(features):
                    same = torch.allclose(self.model(batch.x), logits, rtol=1e-4, atol=1e-5)
        finally:
            scopes.train(self.model)
        if not same or size > self.job.stored_prefix * 2**30:
            log.info(
                "frozen prefix not stored: %s", f"{size / 1e9:.1f} GB" if same else "the model reads more than its end"
            )
            return False
        for role, images in self.job.data.items():
            self.stored[role] = features.new_empty(len(images), *features.shape[1:])
            self.known[role] = torch.zeros(len(images), dtype=torch.bool, device=batch.x.device)
        return True


def watch(model: Classifier, x: Tensor) -> tuple[Tensor, list[tuple[nn.Module, Tensor]]]:
    """Logits, and the outermost frozen modules with their outputs, in the order in which they end,
    up to where the first moving module begins. No modules if one runs twice or gives no tensor."""
    moving = set(map(id, model.moving))
    moving |= {id(m) for m in model.net.modules() if any(p.requires_grad for p in m.parameters(recurse=False))}
    frozen = {id(m) for m in model.net.modules() if not any(id(part) in moving for part in m.modules())}
    found: list[tuple[nn.Module, Tensor]] = []
    inside: list[nn.Module] = []
    over = []

    def enter(module: nn.Module, inputs: tuple) -> None:
        if id(module) in moving:
            over.append(module)
        elif id(module) in frozen:
            inside.append(module)

    def leave(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if inside and inside[-1] is module:
            inside.pop()
            if not inside and not over:
                found.append((module, output))

    handles = [m.register_forward_pre_hook(enter) for m in model.net.modules()]
    handles += [m.register_forward_hook(leave) for m in model.net.modules()]
    try:
        logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    once = len({id(module) for module, _ in found}) == len(found)
    tensors = all(isinstance(output, Tensor) for _, output in found)
    return logits, found if once and tensors else []
