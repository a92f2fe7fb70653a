"""What a long job has done so far, on disk: a killed one goes on from there, to the same bits.

Undeclared files beside the job's output, which Snakemake neither knows nor deletes. Each carries the
identity of its job (code, settings, inputs, seed) and is ignored by any other; all go when the job is
done. Random streams derive from (seed, purpose, epoch), so what has to be kept is a model, an
optimiser, and how far they are.
"""

import io
import logging
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unlearn.io import files

log = logging.getLogger("unlearn")

State = dict[str, Any]
STOPPED = 128 + signal.SIGTERM


class Progress:
    """States of a job by name, in ``folder``, saved at most every ``seconds``; without a folder, of none.

    ``identity`` is any text that tells this job from every other.
    """

    def __init__(self, folder: str | Path | None = None, identity: str = "", seconds: float = 60.0):
        self.folder, self.identity, self.seconds = Path(folder) if folder else None, identity, seconds
        self.saved = time.monotonic()
        self.stopping = False
        self.prefix, self.phases = "", 0

    def phase(self) -> str:
        """A name for the next loop of the job: loops come in the same order each time it runs."""
        self.phases += 1
        return f"{self.prefix}{self.phases}"

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Within it, phases are counted by themselves: a part that is done can be skipped."""
        before = self.prefix, self.phases
        self.prefix, self.phases = f"{self.prefix}{name}-", 0
        try:
            yield
        finally:
            self.prefix, self.phases = before

    def load(self, name: str) -> State | None:
        """What was saved under a name, on the CPU; None if nothing usable was."""
        import torch

        path = self._path(name)
        if path is None or not path.exists():
            return None
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a torn file makes torch raise
            log.warning("%s: unreadable, starting anew (%s)", path, error)
            return None
        if found["identity"] != self.identity:
            log.info("%s: of another job, starting anew", path)
            return None
        return found["state"]

    def save(self, name: str, state: State) -> None:
        """Keep a state (nested dicts and lists of tensors, numbers and texts), replacing the last one whole.

        Raises SystemExit afterwards if the job was told to stop.
        """
        if (path := self._path(name)) is not None:
            import torch

            path.parent.mkdir(parents=True, exist_ok=True)
            whole = io.BytesIO()  # torch hides why it cannot write to a file
            torch.save({"identity": self.identity, "state": state}, whole)
            with files.replacing(path) as part:
                part.write_bytes(whole.getbuffer())
            log.debug("progress kept: %s", path)
        self.saved = time.monotonic()
        if self.stopping:
            log.warning("told to stop; what was done so far is kept" if path else "told to stop")
            raise SystemExit(STOPPED)

    @property
    def due(self) -> bool:
        """Whether to save now."""
        return self.stopping or (self.folder is not None and time.monotonic() - self.saved >= self.seconds)

    @contextmanager
    def loop(self) -> Iterator[None]:
        """Around steps between which the job may save: a SIGTERM (pre-emption) waits for the end of one."""

        def stop(number: int, frame: object) -> None:
            self.stopping = True

        previous = signal.signal(signal.SIGTERM, stop) if self.folder else None
        try:
            yield
        finally:
            if self.folder:
                signal.signal(signal.SIGTERM, previous)

    def clear(self) -> None:
        """The job is done."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path | None:
        return self.folder / f"{name}.pt" if self.folder else None


NOTHING = Progress()
