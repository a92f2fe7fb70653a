"""Values of a config as their types want them, and what is wrong with them in one line.

Stages do not import this module: a change of its words remakes nothing.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from unlearn.config.settings import STRICT, ConfigError, Outside, Section

# By pydantic's type of problem, the end of a sentence that begins with the value.
REASONS = {
    "bool_type": "is not true or false",
    "dict_type": "is not a mapping",
    "finite_number": "is not a finite number",
    "float_type": "is not a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be {ge:g} or greater",
    "int_type": "is not an integer",
    "less_than": "must be less than {lt:.10g}",
    "less_than_equal": "must be {le:g} or less",
    "list_type": "is not a list",
    "literal_error": "is not one of {expected}",
    "model_type": "is not a mapping",
    "string_pattern_mismatch": "does not match {pattern}",
    "string_too_short": "is empty",
    "string_type": "is not a text",
    "too_short": "is empty",
    "tuple_type": "is not a list",
    "value_error": "{error}",
}


def convert(value: Any, kind: Any, where: str) -> Any:
    """``value``, as YAML knows it, as the annotated type or Section ``kind``.

    ``where`` is the config key of the value. Raises ConfigError with one line on the problem nearest to the top.
    """
    adapter = TypeAdapter(kind, config=None if _is_section(kind) else STRICT)
    try:
        # As JSON: a list is good for a tuple, and no text for a number.
        return adapter.validate_json(json.dumps(value, default=repr))
    except ValidationError as error:
        problems = [_Problem.of(kind, found) for found in error.errors(include_url=False)]
    first = min(problems, key=lambda problem: (len(problem.keys), problem.type != "extra_forbidden"))
    raise first.error(where, problems)


def outside(settings: Section) -> Iterator[tuple[str, str, str]]:
    """(name, path, "file", "files" or "folder") for each setting that names something outside the project."""
    for name, field in type(settings).model_fields.items():
        nested = (mark for part in get_args(field.annotation) for mark in getattr(part, "__metadata__", ()))
        for mark in (*field.metadata, *nested):
            if isinstance(mark, Outside) and (given := getattr(settings, name)):
                yield from ((name, path, mark.kind) for path in ([given] if isinstance(given, str) else given))


def sources(settings: Section) -> list[str]:
    """The paths that settings name: by settings of type ``File``, ``Files`` or ``Folder``, and by their method
    ``sources()`` if they have one, for what lies in a folder that it shares with others."""
    more = settings.sources() if hasattr(settings, "sources") else ()
    return [*(path for _, path, _ in outside(settings)), *more]


def yaml_hint(value: Any) -> str:
    """What to write for a number that YAML 1.1 reads as a text, such as 1e-3, and for a text that it reads as true."""
    if isinstance(value, bool):
        word, read = ("yes", "true") if value else ("no", "false")
        return f" (YAML reads {word} as {read}; put it in quotes)"
    try:
        return f" (YAML reads {value} as a text; write {float(value)!r})" if isinstance(value, str) else ""
    except ValueError:
        return ""


@dataclass(frozen=True)
class _Problem:
    """What is wrong with the ``value`` at the place ``keys``; ``known``: the keys of the section there."""

    type: str
    keys: tuple[str | int, ...]
    value: Any
    facts: dict[str, Any]
    known: tuple[str, ...]

    @classmethod
    def of(cls, kind: Any, found: dict[str, Any]) -> "_Problem":
        """From an item of pydantic's ``errors``, whose places also name the members of unions."""
        keys, kinds = [], _members(kind)
        for part in found["loc"]:
            if inner := [_at(member, part) for member in kinds if _at(member, part) is not None]:
                keys.append(part)
                kinds = [member for each in inner for member in _members(each)]
            else:
                kinds = [member for member in kinds if get_args(_at(member, "kind")) == (part,)] or kinds
        known = tuple(name for member in kinds if _is_section(member) for name in member.model_fields)
        facts = {"msg": found["msg"], **found.get("ctx", {})}
        match found["type"]:
            case "extra_forbidden":
                keys.append(found["loc"][-1])
            case "union_tag_not_found":
                return cls("missing", (*keys, "kind"), None, {}, known)
            case "union_tag_invalid":
                value = found["input"]["kind"]
                return cls("literal_error", (*keys, "kind"), value, {"expected": facts["expected_tags"]}, known)
        return cls(found["type"], tuple(keys), found["input"], facts, known)

    def error(self, where: str, problems: Sequence["_Problem"]) -> ConfigError:
        """The problem in a line; ``problems``: all there are, of which a union has one for each of its members."""
        key = ".".join([where] * bool(where) + [str(key) for key in self.keys])
        if self.type == "missing":
            return ConfigError(f"{key}: missing", key.rpartition(".")[0] or "config")
        if self.type == "extra_forbidden":
            return ConfigError(f"{key}: unknown key; known are {', '.join(self.known) or 'none'}")
        reasons = dict.fromkeys(problem.reason() for problem in problems if problem.keys == self.keys)
        if self.type == "value_error" and isinstance(self.value, dict):  # what a section says of its keys together
            return ConfigError(f"{key}: {' and '.join(reasons)}")
        shown = repr(self.value)
        return ConfigError(f"{key}: {shown if len(shown) < 200 else f'{shown[:200]}…'} {' and '.join(reasons)}")

    def reason(self) -> str:
        """What is wrong, as the end of a sentence that begins with the value."""
        reason = REASONS.get(self.type, "is refused: {msg}").format(**self.facts).replace("' or '", "', '")
        hinted = self.type == ("string_type" if isinstance(self.value, bool) else "float_type")
        return reason + (yaml_hint(self.value) if hinted else "")


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _members(kind: Any) -> list[Any]:
    """The types that make up a union, or the type itself."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    return [m for a in get_args(kind) for m in _members(a)] if get_origin(kind) in (Union, UnionType) else [kind]


def _at(kind: Any, key: str | int) -> Any:
    """The type of what a mapping or list holds at a key; None if it holds nothing there."""
    if _is_section(kind):
        return kind.model_fields[key].annotation if key in kind.model_fields else None
    if get_origin(kind) is dict and isinstance(key, str):
        return get_args(kind)[1]
    return get_args(kind)[0] if get_origin(kind) in (list, tuple) and isinstance(key, int) else None
