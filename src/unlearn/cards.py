"""Which card a job takes where it sees several: that of the fewest jobs.

Snakemake counts cards (`--resources gpu=2`) and chooses none; a job under SLURM sees only those it was given.
Cards are shared between all workflows of a user on a machine.
"""

import fcntl
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO

_held: list[IO[str]] = []  # open, and so locked, until this process ends, however it ends


def take(cards: Sequence[str]) -> int:
    """Index of the card that the fewest processes hold, the first of equals. This process holds it until it ends.

    ``cards`` are names by which all processes on this machine know them.
    """
    folder = Path(tempfile.gettempdir()) / f"unlearn-cards-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / "choice.lock", "w") as choice:
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
    file = open(path, "w")  # noqa: SIM115 (its holder closes it)
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    file.close()
    return None


def visible(number: int) -> list[str]:
    """Names of the ``number`` cards that CUDA shows to this process, as all its user's processes know them."""
    named = [name.strip().replace("/", "-") for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return named[:number] if named[0] else [str(i) for i in range(number)]
