"""Plug-ins by name: one file in ``methods/``, ``attacks/``, ``data/``, ``metrics/`` or ``figures/``.

The file name is the registered name; nothing else has to be edited. Files are imported only when
used, so that a method's code fingerprint covers that method alone. Folders outside the project may hold further ones;
their files are modules of this package too (``DIR/methods/mine.py`` is ``unlearn.methods.mine``).
"""

import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from unlearn.config.settings import ConfigError, Section

KINDS = ("methods", "attacks", "data", "metrics", "figures")
ROOT = Path(__file__).parents[1]
OUTSIDE = "UNLEARN_PLUGINS"  # environment: the folders outside the project, which the processes of jobs inherit


def use(folders: Sequence[str]) -> None:
    """From now on, also in jobs that this process starts, the plug-ins of these folders are there beside the project's,
    and no others. Raises ConfigError for a folder without plug-ins, and for a name that is taken or cannot be imported.
    """
    found = [os.path.abspath(folder) for folder in folders]
    os.environ.pop(OUTSIDE, None)
    for place, (folder, given) in enumerate(zip(found, folders, strict=True)):
        where = f"plugins.{place}: {given}"
        files = [(kind, path) for kind in KINDS for path in sorted(Path(folder, kind).glob("*.py"))]
        if not os.path.isdir(folder):
            raise ConfigError(f"{where}: no such folder")
        if os.pathsep in folder:
            raise ConfigError(f"{where}: its path may hold no {os.pathsep!r}")
        if not files:
            raise ConfigError(f"{where}: holds no plug-ins, which are files such as methods/NAME.py")
        for kind, path in files:
            if path.stem == "__init__":
                continue
            if not path.stem.isidentifier():
                raise ConfigError(f"{where}/{kind}/{path.name}: the name of a plug-in is of letters, digits and _")
            if (taken := source(kind, path.stem)) is not None:
                raise ConfigError(f"{where}/{kind}/{path.name}: {path.stem!r} is there already, {taken}")
        os.environ[OUTSIDE] = os.pathsep.join(found[: place + 1])


def places(kind: str) -> list[Path]:
    """The folders of a kind: the project's, then those outside."""
    outside = filter(None, os.environ.get(OUTSIDE, "").split(os.pathsep))
    return [ROOT / kind, *(Path(folder, kind) for folder in outside)]


def source(kind: str, name: str) -> Path | None:
    """The file of a module in the folders of a kind; None if there is none."""
    return next((path for place in places(kind) if (path := place / f"{name}.py").is_file()), None)


def names(kind: str) -> list[str]:
    """All registered names of a kind, sorted."""
    return sorted(p.stem for place in places(kind) for p in place.glob("*.py") if not p.stem.startswith("_"))


def check(kind: str, name: Any, where: str) -> None:
    """Raise ConfigError unless ``name`` is registered; ``where`` is the config key that holds it."""
    if name not in names(kind):
        raise ConfigError(f"{where}: no {kind.removesuffix('s')} named {name!r}; known are {', '.join(names(kind))}")


def load(kind: str, name: str) -> ModuleType:
    """Import the plug-in. Raises ConfigError for an unknown name and for a file that cannot be imported."""
    check(kind, name, kind)
    try:
        package = importlib.import_module(f"unlearn.{kind}")
        package.__path__ = list(map(str, places(kind)))
        return importlib.import_module(f"unlearn.{kind}.{name}")
    except Exception as error:
        raise ConfigError(f"{kind}/{name}.py: {type(error).__name__}: {error}") from error


def settings(kind: str, name: str, given: dict[str, Any]) -> Section:
    """The plug-in's own ``Settings`` for a stage to run with. Raises ConfigError naming the key."""
    try:
        return load(kind, name).Settings.model_validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join([kind, name, *map(str, first['loc'])])}: {first['msg']}") from None
