"""Which card a job takes where it sees several: that of the fewest jobs.

Snakemake counts cards (`--resources gpu=2`) and chooses none. All jobs of a user on a machine, of whatever workflow,
count, also those that see one card only; but for those with another TMPDIR.
"""

import fcntl
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO

from unlearn.io import files

_held: list[IO[str]] = []  # open, and so locked, until this process ends, however it ends


def take() -> None:
    """Let this process compute on one of the cards that CUDA shows it, and hold that until it ends."""
    import torch

    # Their places differ from process to process, as CUDA_VISIBLE_DEVICES does.
    names = tuple(str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count()))
    torch.cuda.set_device(chosen(names))


@cache
def chosen(cards: Sequence[str]) -> int:
    """Index of the card that the fewest processes hold, the first of equals. This process holds it from now on."""
    folder = files.private("cards")
    with open(folder / "choice.lock", "a") as choice:
        fcntl.flock(choice, fcntl.LOCK_EX)
        holders = [_holders(folder, card) for card in cards]
        index = min(range(len(cards)), key=lambda i: len(holders[i]))
        place = next(place for place in count() if place not in holders[index])
        file = _locked(folder / f"{cards[index]}.{place}")
        assert file  # nobody else chooses meanwhile
        _held.append(file)
    return index


def _holders(folder: Path, card: str) -> set[int]:
    """The places of a card that are held. A file stays when its holder has ended; only its lock counts."""
    held = set()
    for path in folder.glob(f"{card}.*"):
        if (file := _locked(path)) is None:
            held.add(int(path.suffix[1:]))
        else:
            file.close()
    return held


def _locked(path: Path) -> IO[str] | None:
    """A file that this process has locked now; None if another holds it."""
    file = open(path, "a")  # noqa: SIM115 (its holder closes it)
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    file.close()
    return None
