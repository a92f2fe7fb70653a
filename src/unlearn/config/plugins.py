"""Plug-ins by name: one file in ``methods/``, ``attacks/``, ``data/``, ``metrics/`` or ``figures/``.

The file name is the registered name; nothing else has to be edited. Files are imported only when
used, so that a method's code fingerprint covers that method alone.
"""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from unlearn.config.settings import ConfigError, Section

KINDS = ("methods", "attacks", "data", "metrics", "figures")
ROOT = Path(__file__).parents[1]


def names(kind: str) -> list[str]:
    """All registered names of a kind, sorted."""
    return sorted(p.stem for p in (ROOT / kind).glob("*.py") if not p.stem.startswith("_"))


def check(kind: str, name: Any, where: str) -> None:
    """Raise ConfigError unless ``name`` is registered; ``where`` is the config key that holds it."""
    if name not in names(kind):
        raise ConfigError(f"{where}: no {kind.removesuffix('s')} named {name!r}; known are {', '.join(names(kind))}")


def load(kind: str, name: str) -> ModuleType:
    """Import the plug-in. Raises ConfigError for an unknown name and for a file that cannot be imported."""
    check(kind, name, kind)
    try:
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
