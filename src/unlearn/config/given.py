"""Files that the user gives in place of what a study would make: weights, and the code of a model.

A path of weights may hold ``{seed}`` and, where the model has forgotten something, ``{forget}``.
"""

import re
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

INIT = "init"  # the key of weights to start from, whose head may be of other classes


def _with_seed(path: str) -> str:
    return _filled(path, seed=0)


def _with_forget(path: str) -> str:
    return _filled(path, seed=0, forget="x")


def _filled(path: str, **known: object) -> str:
    try:
        path.format(**known)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(f"may hold {' and '.join(f'{{{name}}}' for name in known)}, no other braces") from None
    return path


OriginalWeights = Annotated[str, Field(min_length=1), AfterValidator(_with_seed)]
ForgottenWeights = Annotated[str, Field(min_length=1), AfterValidator(_with_forget)]


def places(path: str) -> set[str]:
    """The names in braces in a path.

    >>> sorted(places("runs/{forget}-{seed}.pt"))
    ['forget', 'seed']
    """
    return {name for _, name, _, _ in Formatter().parse(path) if name}


def local(model: str) -> tuple[str, str] | None:
    """File and function of a model that timm does not have; None for a name of timm's.

    >>> local("nets/mine.py:build"), local("resnet18")
    (('nets/mine.py', 'build'), None)
    """
    found = re.fullmatch(r"(.+\.py):([A-Za-z_]\w*)", model)
    return (found[1], found[2]) if found else None
