"""Which GPU a job takes where it sees several: that of the fewest jobs.

Snakemake counts GPUs (`--resources gpu=2`) and chooses none. All jobs of this user on this machine count, whichever
workflow started them, also those that see one GPU only. Jobs with another TMPDIR do not count.
"""

from collections.abc import Sequence
from functools import cache
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from unlearn.runtime import folders

_held: list[FileLock] = []  # until this process ends, however it ends


def take() -> None:
    """Let this process compute on one of the GPUs that CUDA shows it, and hold that until it ends."""
    import torch

    # A GPU's index differs from process to process, as CUDA_VISIBLE_DEVICES does.
    names = tuple(str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count()))
    torch.cuda.set_device(chosen(names))


@cache
def chosen(gpus: Sequence[str]) -> int:
    """Index of the GPU that the fewest processes hold, the first of equals. This process holds it from now on."""
    folder = folders.private("gpus")
    with FileLock(folder / "choice.lock"):
        places = [_held_places(folder, gpu) for gpu in gpus]
        index = min(range(len(gpus)), key=lambda i: len(places[i]))
        place = next(place for place in count() if place not in places[index])
        _held.append(FileLock(folder / f"{gpus[index]}.{place}"))
        _held[-1].acquire(blocking=False)
    return index


def _held_places(folder: Path, gpu: str) -> set[int]:
    """The places of a GPU that are held. A file stays when its holder has ended; only its lock counts."""
    held = set()
    for path in folder.glob(f"{gpu}.*"):
        try:
            with FileLock(path, blocking=False):
                pass
        except Timeout:
            held.add(int(path.suffix[1:]))
    return held
