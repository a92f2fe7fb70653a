"""The vocabulary of settings: annotated types, sections of a config, and errors in one line.

A plug-in declares its settings as a class ``Settings`` that derives from ``Section`` or ``Training``; its annotations
state type and range, its defaults are the only place where a default stands. Nothing here imports torch, so a whole
config is checked while the Snakefile is parsed (importing torch costs 2.9 CPU s a parse).
"""

import json
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

__all__ = [
    "Annotated",
    "Any",
    "Budget",
    "Count",
    "Field",
    "File",
    "Folder",
    "Fraction",
    "Literal",
    "Natural",
    "NonNegative",
    "Positive",
    "Section",
    "Seed",
    "Share",
    "Training",
]


class ConfigError(ValueError):
    """A setting that cannot be used. The message starts with the key, unless ``key`` says better
    which file to look in."""

    def __init__(self, message: str, key: str = ""):
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Outside:
    """Marks a text that names a "file" or "folder" outside the project, whose content a result depends on."""

    kind: str


Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Natural = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Budget = Natural | None  # None for all
File = Annotated[str, Field(min_length=1), Outside("file")]
Folder = Annotated[str, Field(min_length=1), Outside("folder")]  # may be absent where a setting ``download`` is on

STRICT = ConfigDict(strict=True, allow_inf_nan=False)


class Section(BaseModel):
    """A section of a config with fixed keys, such as the settings of a plug-in."""

    model_config = ConfigDict(**STRICT, frozen=True, extra="forbid", validate_default=True)


class Training(Section):
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


def convert(value: Any, kind: Any, where: str) -> Any:
    """``value``, as YAML and JSON know it, as the annotated type or Section ``kind``.

    ``where`` is the config key of the value. Raises ConfigError with one line on the problem nearest to the top.
    """
    adapter = TypeAdapter(kind, config=None if _is_section(kind) else STRICT)
    try:
        # As JSON: a list is good for a tuple, and no text for a number.
        return adapter.validate_json(json.dumps(value, default=repr))
    except ValidationError as error:
        found = [(_key(kind, problem), problem) for problem in error.errors(include_url=False)]
    key, first = min(found, key=lambda each: (len(each[0]), each[1]["type"] != "extra_forbidden"))
    path = ".".join([where] * bool(where) + list(map(str, key)))
    if first["type"] == "missing":
        raise ConfigError(f"{path}: missing", path.rpartition(".")[0] or "config")
    if first["type"] == "extra_forbidden":
        known = dict.fromkeys(name for section in _holders(kind, first["loc"]) for name in section.model_fields)
        raise ConfigError(f"{path}: unknown key; known are {', '.join(known) or 'none'}")
    reasons = dict.fromkeys(_reason(problem) for other, problem in found if other == key)
    shown = repr(first["input"])
    raise ConfigError(f"{path}: {shown if len(shown) < 200 else f'{shown[:200]}…'} {' and '.join(reasons)}")


def sources(settings: Section) -> Iterator[tuple[str, str, str]]:
    """(name, path, "file" or "folder") of the settings that name something outside the project."""
    for name, field in type(settings).model_fields.items():
        yield from ((name, getattr(settings, name), mark.kind) for mark in field.metadata if isinstance(mark, Outside))


REASONS = {
    "float_type": "is not a number",
    "int_type": "is not an integer",
    "bool_type": "is not true or false",
    "string_type": "is not a text",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
    "dict_type": "is not a mapping",
    "model_type": "is not a mapping",
    "finite_number": "is not a finite number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be {ge:g} or greater",
    "less_than": "must be less than {lt:.10g}",
    "less_than_equal": "must be {le:g} or less",
    "literal_error": "is not one of {expected}",
    "string_pattern_mismatch": "does not match {pattern}",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "union_tag_invalid": "has no {discriminator} that is one of {expected_tags}",
    "union_tag_not_found": "has no {discriminator}",
    "value_error": "{error}",
}


def _reason(problem: dict[str, Any]) -> str:
    """What is wrong with a value, as the end of a sentence that begins with it."""
    reason = REASONS[problem["type"]].format(**problem.get("ctx", {})).replace("' or '", "', '")
    return reason + (yaml_hint(problem["input"]) if problem["type"] == "float_type" else "")


def yaml_hint(value: Any) -> str:
    """What to write for a number that YAML 1.1 reads as a text, such as 1e-3."""
    try:
        return f" (YAML reads {value} as a text; write {float(value)!r})" if isinstance(value, str) else ""
    except ValueError:
        return ""


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
