"""Config files: YAML without its traps, and the file that a wrong key stands in."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unlearn.config.settings import ConfigError


def read(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError naming the file, and the line where there is one.

    Stricter than Snakemake, which takes the last of two equal keys, 010 for 8 and 1:30 for 90.
    """
    try:
        found = yaml.load(Path(path).read_text(encoding="utf-8"), _Strict)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{path}, line {mark.line + 1}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"{path}: is not a text file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must hold keys with values, holds {'a list' if found else 'nothing'}")
    return found


class _Strict(yaml.SafeLoader):
    """Refuses keys that stand twice, and numbers that are not written as they are read."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key.value, str) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in lines:
                    _refuse(f"key {key.value!r} stands twice, first in line {lines[key.value]}", key)
                lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=True)  # deep: an alias of its own parent is refused

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = super().construct_yaml_int(node)
        return value if node.value == str(value) else _refuse(f"{node.value} is read as {value}; write that", node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value = super().construct_yaml_float(node)
        plain = not set(":_") & set(node.value)
        return value if plain else _refuse(f"{node.value} is read as {value!r}; write that", node)


_Strict.add_constructor("tag:yaml.org,2002:int", _Strict.construct_yaml_int)
_Strict.add_constructor("tag:yaml.org,2002:float", _Strict.construct_yaml_float)


def _refuse(problem: str, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def in_file(error: ConfigError, trees: Mapping[Path, Any]) -> ConfigError:
    """The error with the name of the last file that holds the longest known part of its key.

    A key that no file holds came from the command line; what the config as a whole lacks belongs into the last file.
    """
    message = str(error)
    keys = (error.key or message.split(":")[0]).split(".")
    best, where = 0, list(trees)[-1] if trees and keys == ["config"] else None
    for path, tree in trees.items():
        depth = _depth(tree, keys)
        if depth and depth >= best:
            best, where = depth, path
    return ConfigError(f"{where}: {message}" if where else message, error.key)


def _depth(tree: Any, keys: Sequence[str]) -> int:
    for depth, key in enumerate(keys):
        found = {str(name): value for name, value in tree.items()} if isinstance(tree, Mapping) else {}
        if key not in found:
            return depth
        tree = found[key]
    return len(keys)


def check_plain(value: Any, path: tuple[str, ...] = ()) -> None:
    """Raise ConfigError for what JSON cannot hold: a result's record could not be written."""
    key = ".".join(path)
    match value:
        case Mapping():
            for name, item in value.items():
                if not isinstance(name, str):
                    raise ConfigError(f"{'.'.join([*path, str(name)])}: the key is read as {name!r}; put it in quotes")
                check_plain(item, (*path, name))
        case list() | tuple():
            for number, item in enumerate(value):
                check_plain(item, (*path, str(number)))
        case float() if not math.isfinite(value):
            raise ConfigError(f"{key}: {value!r} is not a finite number")
        case str() if "\n" in value:
            raise ConfigError(f"{key}: {value!r} has several lines")
        case None | bool() | int() | float() | str():
            return
        case _:
            raise ConfigError(f"{key}: {value!r} is read as a {type(value).__name__}; put it in quotes")
