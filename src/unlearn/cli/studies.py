"""A study from an overlay, as the Snakefile reads it: laid over config.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearn.config import plugins, strict_yaml
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study

ROOT = plugins.ROOT.parents[1]  # of the project: the Snakefile and config.yaml


def read(overlay: str | Path, results: str | None = None) -> Study:
    """The checked study of an overlay. ``results``: as of ``Study``. Raises ConfigError naming file and key."""
    return checked(strict_yaml.read(overlay), [base(), overlay], results)


def checked(overlay: Mapping[str, Any], files: list[str | Path], results: str | None = None) -> Study:
    """The study of the keys of an overlay; ``files``: where errors look for the key."""
    return Study(laid_over(strict_yaml.read(base()), overlay), files, results=results)


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
