"""Settings are converted by their annotations alone, and every error names its key."""

import math
from dataclasses import dataclass
from typing import Literal

import pytest

from unlearn.config import settings as hyper
from unlearn.config.settings import ConfigError


@dataclass(frozen=True)
class Settings:
    name: str
    lr: hyper.Positive = 0.1
    decay: hyper.NonNegative = 0.0
    fraction: hyper.Fraction = 0.5
    share: hyper.Share = 1.0
    steps: hyper.Natural = 1
    count: hyper.Count = 0
    budget: hyper.Budget = None
    kind: Literal["sgd", "adam"] = "sgd"
    flip: bool = False
    sizes: tuple[int, ...] = ()


def build(**given):
    return hyper.build(Settings, {"name": "x", **given}, "settings.here")


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
        ("fraction", 0.0, "must be strictly between 0 and 1"),
        ("fraction", 1.0, "must be strictly between 0 and 1"),
        ("share", 1.01, "must be between 0 and 1"),
        ("steps", 0, "must be 1 or greater"),
        ("steps", 2.0, "is not an integer"),
        ("steps", "2", "is not an integer"),
        ("steps", True, "is not an integer"),
        ("count", -1, "must be 0 or greater"),
        ("budget", 0, "must be 1 or greater, or null for all"),
        ("budget", 1.5, "is not an integer"),
        ("kind", "rmsprop", "is not one of 'sgd', 'adam'"),
        ("kind", ["sgd"], "is not one of 'sgd', 'adam'"),
        ("flip", 1, "is not true or false"),
        ("flip", "no", "is not true or false"),
        ("name", 3, "is not a text"),
        ("sizes", 3, "is not a list"),
    ],
)
def test_refuses(key, value, reason):
    with pytest.raises(ConfigError) as caught:
        build(**{key: value})
    assert str(caught.value) == f"settings.here.{key}: {value!r} {reason}"


def test_names_the_item_of_a_list():
    with pytest.raises(ConfigError, match=r"settings\.here\.sizes\[1\]: 'b' is not an integer"):
        build(sizes=[1, "b"])


def test_unknown_key_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"settings\.here\.momentun: unknown setting; known are name, lr, "):
        build(momentun=0.9)


def test_a_setting_without_default_is_required():
    with pytest.raises(ConfigError, match=r"settings\.here\.name: missing"):
        hyper.build(Settings, {}, "settings.here")


def test_a_class_may_check_combinations():
    @dataclass(frozen=True)
    class Ordered:
        low: int
        high: int

        def __post_init__(self):
            if self.low > self.high:
                raise ConfigError("low is above high")

    with pytest.raises(ConfigError, match=r"here: low is above high"):
        hyper.build(Ordered, {"low": 2, "high": 1}, "here")


def test_converts():
    found = build(lr=1, steps=3, budget=5, sizes=[1, 2], kind="adam", flip=True)
    assert found == Settings("x", 1.0, steps=3, budget=5, sizes=(1, 2), kind="adam", flip=True)
    assert isinstance(found.lr, float)
    assert build(budget=None) == Settings("x")


def test_defaults_satisfy_their_own_ranges():
    default = hyper.Training()
    assert hyper.build(hyper.Training, vars(default), "train") == default
