"""Settings are converted by their annotations alone, and every error names its key."""

import math
from typing import Literal

import pytest
from pydantic import model_validator

from unlearn.config.settings import (
    Budget,
    ConfigError,
    Count,
    File,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Section,
    Seed,
    Share,
    Training,
)
from unlearn.config.validation import convert, outside


class Settings(Section):
    name: str
    lr: Positive = 0.1
    decay: NonNegative = 0.0
    fraction: Fraction = 0.5
    share: Share = 1.0
    steps: Natural = 1
    count: Count = 0
    budget: Budget = None
    seed: Seed = 0
    kind: Literal["sgd", "adam"] = "sgd"
    flip: bool = False
    sizes: tuple[int, ...] = ()
    either: int | str = 0
    limit: Natural | Literal["all"] = "all"


def build(**given):
    return convert({"name": "x", **given}, Settings, "settings.here")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("lr", "1e-3", "is not a number (YAML reads 1e-3 as a text; write 0.001)"),
        ("lr", "fast", "is not a number"),
        ("lr", True, "is not a number"),
        ("lr", None, "is not a number"),
        ("lr", [0.1], "is not a number"),
        ("lr", math.nan, "is not a finite number"),
        ("lr", math.inf, "is not a finite number"),
        ("lr", 0.0, "must be greater than 0"),
        ("decay", -1e-9, "must be 0 or greater"),
        ("fraction", 0.0, "must be greater than 0"),
        ("fraction", 1.0, "must be less than 1"),
        ("share", 1.01, "must be 1 or less"),
        ("steps", 0, "must be 1 or greater"),
        ("steps", 2.0, "is not an integer"),
        ("steps", "2", "is not an integer"),
        ("steps", True, "is not an integer"),
        ("count", -1, "must be 0 or greater"),
        ("budget", 0, "must be 1 or greater"),
        ("budget", 1.5, "is not an integer"),
        ("seed", 2**32, "must be less than 4294967296"),
        ("kind", "rmsprop", "is not one of 'sgd', 'adam'"),
        ("kind", ["sgd"], "is not one of 'sgd', 'adam'"),
        ("flip", 1, "is not true or false"),
        ("flip", "no", "is not true or false"),
        ("name", 3, "is not a text"),
        ("sizes", 3, "is not a list"),
        ("either", True, "is not an integer and is not a text (YAML reads yes as true; put it in quotes)"),
        ("either", 1.5, "is not an integer and is not a text"),
        ("limit", 0, "must be 1 or greater and is not one of 'all'"),
    ],
)
def test_refuses(key, value, reason):
    with pytest.raises(ConfigError) as caught:
        build(**{key: value})
    assert str(caught.value) == f"settings.here.{key}: {value!r} {reason}"


def test_names_the_item_of_a_list():
    with pytest.raises(ConfigError, match=r"settings\.here\.sizes\.1: 'b' is not an integer"):
        build(sizes=[1, "b"])


def test_unknown_key_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"settings\.here\.momentun: unknown key; known are name, lr, "):
        build(momentun=0.9)


def test_a_misspelt_key_is_named_before_the_one_it_lacks():
    with pytest.raises(ConfigError, match=r"settings\.here\.nam: unknown key; known are name, "):
        convert({"nam": "x"}, Settings, "settings.here")


def test_a_setting_without_default_is_required():
    with pytest.raises(ConfigError, match=r"settings\.here\.name: missing"):
        convert({}, Settings, "settings.here")


def test_a_class_may_check_combinations():
    class Ordered(Section):
        low: int
        high: int

        @model_validator(mode="after")
        def in_order(self):
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    with pytest.raises(ConfigError, match=r"^here: low is above high$"):
        convert({"low": 2, "high": 1}, Ordered, "here")


def test_what_has_no_words_of_ours_is_refused_in_a_line():
    class Other(Section):
        when: frozenset[int]

    with pytest.raises(ConfigError, match=r"^here\.when: 3 is refused: Input should be a valid array$"):
        convert({"when": 3}, Other, "here")


def test_converts():
    found = build(lr=1, steps=3, budget=5, sizes=[1, 2], kind="adam", flip=True, either="all", limit=3)
    wanted = {"lr": 1.0, "steps": 3, "budget": 5, "sizes": (1, 2), "kind": "adam", "flip": True, "either": "all"}
    assert found == Settings(name="x", **wanted, limit=3)
    assert isinstance(found.lr, float)
    assert build(budget=None, either=3) == Settings(name="x", either=3)


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        build().lr = 0.2


def test_defaults_satisfy_their_own_ranges():
    default = Training()
    assert convert(vars(default), Training, "train") == default


def test_what_is_named_outside_the_project():
    class Named(Section):
        one: File
        none: File | None = None
        maybe: File | None = "b"
        many: tuple[File, ...] = ("c", "d")
        text: str = "e"

    found = list(outside(Named(one="a")))
    assert found == [("one", "a", "file"), ("maybe", "b", "file"), ("many", "c", "file"), ("many", "d", "file")]
