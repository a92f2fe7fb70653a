"""The vocabulary in which methods, attacks and data sources declare their settings.

A plug-in declares one frozen dataclass named ``Settings``; its annotations state type and range,
its defaults are the only place where a default stands. Nothing here imports torch, so a whole
config is checked while the Snakefile is parsed (importing torch costs 2.9 CPU s a parse).
"""

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = [
    "Annotated",
    "Any",
    "Budget",
    "Count",
    "File",
    "Folder",
    "Fraction",
    "Literal",
    "Natural",
    "NonNegative",
    "Positive",
    "Seed",
    "Share",
    "Training",
    "dataclass",
]


class ConfigError(ValueError):
    """A setting that cannot be used. The message starts with the key, unless ``key`` says better
    which file to look in."""

    def __init__(self, message: str, key: str = ""):
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Check:
    """A range: ``text`` completes the sentence "must be …"."""

    text: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Source:
    """Marks a text that names a ``file`` or ``folder`` outside the project, whose content a result depends on."""

    kind: Literal["file", "folder"]


File = Annotated[str, Source("file")]
Folder = Annotated[str, Source("folder")]
Positive = Annotated[float, Check("greater than 0", lambda v: v > 0)]
NonNegative = Annotated[float, Check("0 or greater", lambda v: v >= 0)]
Fraction = Annotated[float, Check("strictly between 0 and 1", lambda v: 0 < v < 1)]
Share = Annotated[float, Check("between 0 and 1", lambda v: 0 <= v <= 1)]
Natural = Annotated[int, Check("1 or greater", lambda v: v >= 1)]
Count = Annotated[int, Check("0 or greater", lambda v: v >= 0)]
Seed = Annotated[int, Check("0 to 4294967295", lambda v: 0 <= v < 2**32)]
Budget = Annotated[int | None, Check("1 or greater, or null for all", lambda v: v is None or v >= 1)]


@dataclass(frozen=True)
class Training:
    """What every gradient-trained method needs; the optimisation scaffold of SalUn (Fan et al.
    2024, §5): SGD with momentum 0.9 and weight decay 5e-4, batch 256, a fresh optimiser state,
    and a learning rate that is constant over the few epochs of unlearning."""

    epochs: Count = 10
    lr: NonNegative = 0.01
    batch_size: Natural = 256
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Count = 0


def build(cls: type, given: Mapping[str, Any], where: str) -> Any:
    """An instance of the dataclass ``cls`` from a config mapping, checked against its annotations.

    ``where`` is the config key of the mapping. Raises ConfigError naming the full key, also for what the
    dataclass itself refuses.
    """
    hints = get_type_hints(cls, globalns=globals(), include_extras=True)
    known = {field.name: field for field in fields(cls)}
    for key in given:
        if key not in known:
            raise ConfigError(f"{where}.{key}: unknown setting; known are {', '.join(known) or 'none'}")
    values = {}
    for name, field in known.items():
        if name in given:
            values[name] = convert(given[name], hints[name], f"{where}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{where}.{name}: missing")
    try:
        return cls(**values)
    except Exception as error:
        raise ConfigError(f"{where}: {error}") from None


def sources(settings: Any) -> list[str]:
    """The paths that an instance of a plug-in's ``Settings`` names: by settings of type ``File`` or ``Folder``, and by
    its method ``sources()`` if it has one, for what lies in a folder that it shares with others."""
    hints = get_type_hints(type(settings), globalns=globals(), include_extras=True)
    named = [name for name, hint in hints.items() if any(isinstance(m, Source) for m in get_args(hint)[1:])]
    more = settings.sources() if hasattr(settings, "sources") else ()
    return [*(getattr(settings, name) for name in named), *more]


def convert(value: Any, annotation: Any, where: str) -> Any:
    """``value`` as the annotated type, or a ConfigError that names ``where``. Lists become tuples."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        value = convert(value, arguments[0], where)
        for check in arguments[1:]:
            if isinstance(check, Check) and not check.holds(value):
                raise ConfigError(f"{where}: {value!r} must be {check.text}")
        return value
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != any(
            value is a for a in arguments if a in (True, False)
        ):
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (Union, types.UnionType):
        for option in arguments:
            if option is type(None) and value is None:
                return None
        return convert(value, next(a for a in arguments if a is not type(None)), where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: {value!r} is not a list")
        return tuple(convert(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(value))
    return _scalar(value, annotation, where)


def _scalar(value: Any, kind: type, where: str) -> Any:
    if kind is Any:
        return value
    if kind not in _NAMES:
        raise ConfigError(f"{where}: a setting cannot be of type {getattr(kind, '__name__', kind)}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where}: {value!r} is not {_NAMES[kind]}{_yaml_hint(value, kind)}")
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{where}: {value!r} is not a finite number")
    return value


_NAMES = {float: "a number", int: "an integer", str: "a text", bool: "true or false", dict: "a mapping"}


def _yaml_hint(value: Any, kind: type) -> str:
    if kind not in (float, int) or not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return f" (YAML reads {value} as a text; write {number!r})" if kind is float else ""
