"""The names of layer scopes: "all", thirds of a model, or a range of timm's parameter groups.

A config writes ``groups: 3-5``, ends included; paths and columns hold ``groups3-5``. Nothing here needs a model:
``unlearn.models.scopes`` says which layers a scope holds.
"""

import re

from unlearn.run import ALL

THIRDS = ("first", "intermediate", "last")
NAMED = (*THIRDS, "intermediate+last", ALL)
GROUPS = "groups{}(0|[1-9][0-9]*)(?:-([1-9][0-9]*))?"


class ScopeError(ValueError):
    """A scope that does not exist, or that a model does not have."""


def pattern(between: str = "") -> str:
    """A regular expression of all scopes, with a text ``between`` the word groups and its numbers."""
    return "|".join([*map(re.escape, NAMED), GROUPS.format(between)])


def parse(scope: str, between: str = "") -> tuple[str, ...] | range:
    """The thirds that a scope holds, or the numbers of its groups. Each range has one spelling.

    >>> parse("intermediate+last"), parse("groups3-5"), parse("groups: 0", between=": ")
    (('intermediate', 'last'), range(3, 6), range(0, 1))

    Raises ScopeError with the end of a sentence that begins with the scope.
    """
    if scope in NAMED:
        return THIRDS if scope == ALL else tuple(scope.split("+"))
    if not (numbers := re.fullmatch(GROUPS.format(between), scope)):
        raise ScopeError(f"is not one of {', '.join(NAMED)}, groups{between}A-B")
    first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    if last < first:
        raise ScopeError("must name the lower group first")
    if numbers[2] and last == first:
        raise ScopeError(f"must be written groups{between}{first}")
    return range(first, last + 1)


def name(scope: str) -> str:
    """The name in paths and columns of a scope of a config."""
    return scope.replace("groups: ", "groups")
