"""A study from an overlay, as the Snakefile reads it: laid over config.yaml."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn.config import plugins, strict_yaml
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study

ROOT = plugins.ROOT.parents[1]  # of the project: the Snakefile and config.yaml


def read(overlays: Sequence[str], results: str | None = None) -> Study:
    """The checked study of overlays, later ones laid over earlier ones; ``results`` as of ``Study``.

    Raises ConfigError naming file and key.
    """
    files = [base(), *overlays]
    return Study(functools.reduce(laid_over, map(strict_yaml.read, files)), files, results)


def base() -> Path:
    """The project's config.yaml. Raises ConfigError if the package was installed without the workflow around it."""
    if not (ROOT / "Snakefile").is_file():
        raise ConfigError(f"{ROOT}: no Snakefile; install the project from its folder (pip install -e .)")
    return ROOT / "config.yaml"


def laid_over(below: Any, above: Any) -> Any:
    """What Snakemake makes of two config files: mappings are joined, anything else is replaced.

    >>> laid_over({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": []})
    {'a': {'b': 3, 'c': 2}, 'd': []}
    """
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: laid_over(below.get(key), value) for key, value in above.items()}}
