"""What the stages log, as lines that a command prints."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SHOWN = 20  # lines of a kind that a command prints; it says how many others there are
WARNING = "warning: "


@contextmanager
def said() -> Iterator[list[str]]:
    """A list that gets the messages of the package's log, warnings marked, while the context lasts."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{WARNING * (record.levelno >= logging.WARNING)}{record.getMessage()}")

    log, handler = logging.getLogger("unlearn"), Lines()
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def shown(lines: Sequence[str]) -> list[str]:
    """The first warnings and the first other lines, with the numbers of those that are left out."""
    parts = [[line for line in lines if line.startswith(WARNING) == warned] for warned in (True, False)]
    more = ([f"… and {len(part) - SHOWN} more such lines"] if len(part) > SHOWN else [] for part in parts)
    return [line for part, rest in zip(parts, more, strict=True) for line in [*part[:SHOWN], *rest]]
