"""For files in ``metrics/``: what a metric declares, what it is given, and the rows that it yields. No torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

__all__ = [
    "ONE_CLASS",
    "Evidence",
    "Features",
    "Metric",
    "MetricError",
    "References",
    "Row",
    "Rows",
    "Undefined",
    "disparity",
    "no_value",
    "paired",
    "per_class",
    "why",
]

ONE_CLASS = "the images are of one class; a difference between classes needs two"


class MetricError(ValueError):
    """A defect of the study: a reference that is missing, images that differ. Nothing that a model does raises it."""


class Undefined(ValueError):
    """What a metric's own function cannot compute from these images or this model. The metric yields a row without a
    value that gives the reason."""


@dataclass(frozen=True)
class Metric:
    """``goal``: max, min, match_retrain, or info where no direction is good; ``low`` and ``high`` are bounds."""

    label: str
    goal: str
    low: float | None = None
    high: float | None = None
    unit: str = ""


class Row(NamedTuple):
    """A value, the number ``n`` of samples that it is computed from, and the keys that apply.

    A value that is not defined, such as a share of no images, is NaN, which tables hold as null, and ``reason`` says
    why. Which rows a metric yields must not depend on what the model does: a comparison needs them on both sides."""

    metric: str
    value: float
    n: int
    role: str | None = None
    attack: str | None = None
    eps: float | None = None
    label: int | None = None
    layer: str | None = None
    reason: str | None = None


def no_value(metric: str, reason: str, n: int = 0, **keys: Any) -> Row:
    """A row without a value."""
    return Row(metric, math.nan, n, **keys, reason=reason)


@dataclass(frozen=True)
class Features:
    """A run's features on a sample of the images: ``images`` (id, role, label), and in their order the features
    float32 [N, D] of each layer, by its name and in order of depth. D differs between layers."""

    images: pd.DataFrame
    layers: dict[str, np.ndarray]


@dataclass(frozen=True)
class Evidence:
    """A run's tables.

    ``predictions`` (id, role, label) and ``logits`` [N, C] have the same order. ``adversarial`` are the images of
    attacks that aim to fool the model, ``recovery`` of those that aim to recover labels; ``metrics`` is there once the
    absolute metrics are computed. ``radii``: attack → its ascending radii; ``checks``: attack → what it recorded of its
    perturbations. ``features`` and ``relearning`` are there for metrics that declare them in NEEDS. A reference may
    have predictions, features and metrics alone.
    """

    predictions: pd.DataFrame
    logits: np.ndarray
    adversarial: pd.DataFrame | None = None
    activations: pd.DataFrame | None = None
    cost: pd.DataFrame | None = None
    metrics: pd.DataFrame | None = None
    recovery: pd.DataFrame | None = None
    features: Features | None = None
    relearning: pd.DataFrame | None = None
    radii: dict[str, tuple[float, ...]] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def forgotten_classes(self) -> frozenset[int]:
        """Classes of which nothing is retained. Raises MetricError without images to forget or to retain."""
        by_role = self.predictions.groupby("role")["label"].unique()
        for role in ("forget", "retain"):
            if role not in by_role:
                raise MetricError(f"no predictions for role {role!r}")
        return frozenset(by_role["forget"]) - frozenset(by_role["retain"])

    def of_role(self, role: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels [N] and logits [N, C] of a role, by ascending id. Raises MetricError if it has no images."""
        rows = self._rows(role)
        return self.predictions["label"].to_numpy()[rows], self.logits[rows]

    def beside(self, other: "Evidence", role: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels [N] and both runs' logits [N, C] of the same images, by ascending id.

        Raises MetricError if an image of the role is missing on either side, or labelled otherwise.
        """
        labels, logits = self.of_role(role)
        ids, others = (e.predictions["id"].to_numpy()[e._rows(role)] for e in (self, other))
        if different := len(np.setxor1d(ids, others)):
            raise MetricError(f"{different} images of role {role!r} are on one side only")
        other_labels, other_logits = other.of_role(role)
        if (labels != other_labels).any():
            raise MetricError(f"images of role {role!r} have other labels in the reference")
        return labels, logits, other_logits

    def features_of(self, *roles: str) -> Features:
        """Features of the roles' images, by ascending id. Raises MetricError for a role without images."""
        images = self.features.images
        chosen = (images["role"].isin(roles) & self.counted(images)).to_numpy().nonzero()[0]
        chosen = chosen[np.argsort(images["id"].to_numpy()[chosen])]
        found = images.iloc[chosen].reset_index(drop=True)
        if missing := [role for role in roles if role not in set(found["role"])]:
            raise MetricError(f"no features for role {missing[0]!r}")
        return Features(found, {layer: x[chosen] for layer, x in self.features.layers.items()})

    def features_beside(self, other: "Evidence", *roles: str) -> tuple[Features, Features]:
        """Both runs' features of the same images, by ascending id.

        Raises MetricError unless both have the same layers, and the same images with the same roles and labels.
        """
        own, others = self.features_of(*roles), other.features_of(*roles)
        if not own.images.equals(others.images):
            raise MetricError(f"features of role {', '.join(roles)} are of other images in the reference")
        if list(own.layers) != list(others.layers):
            raise MetricError(f"features are of layers {', '.join(own.layers)}, the reference's of others")
        return own, others

    def _rows(self, role: str) -> np.ndarray:
        chosen = ((self.predictions["role"] == role) & self.counted(self.predictions)).to_numpy().nonzero()[0]
        if not len(chosen):
            raise MetricError(f"no predictions for role {role!r}")
        return chosen[np.argsort(self.predictions["id"].to_numpy()[chosen])]

    def counted(self, frame: pd.DataFrame) -> pd.Series:
        """Whether each row counts: all but test images of forgotten classes."""
        return ~((frame["role"] == "test") & frame["label"].isin(self.forgotten_classes))

    def value(self, metric: str) -> float:
        """The value of a metric without keys, NaN if it is not defined. Raises MetricError if it was not measured."""
        values = self.metrics.loc[self.metrics["metric"] == metric, "value"]
        if len(values) != 1:
            raise MetricError(f"needs one value of {metric!r}, found {len(values)}; is it in the config's metrics?")
        return float(values.iloc[0])

    def reason(self, *metrics: str) -> str | None:
        """Why the first of these metrics without a value has none; None if all have one."""
        rows = self.metrics[self.metrics["metric"].isin(metrics) & self.metrics["value"].isna()]
        return None if rows.empty else f"{rows['metric'].iloc[0]}: {rows['reason'].iloc[0]}"


@dataclass(frozen=True)
class References:
    """What a run is compared with: exact retraining, with its metrics, and the model that forgot nothing. Both have the
    run's architecture, forget set and seed."""

    retrain: Evidence
    original: Evidence


Rows = Iterator[Row]


def paired(
    run: Evidence, reference: Evidence, metric: str, keys: list[str]
) -> Iterator[tuple[dict[str, Any], float, float, int, str | None]]:
    """Of each row of a metric: its ``keys``, its value, the reference's value, its n, and why one of the values is NaN.

    Raises MetricError if the reference has other rows.
    """
    own, other = (
        e.metrics[e.metrics["metric"] == metric].set_index(keys)[["value", "n", "reason"]] for e in (run, reference)
    )
    if set(own.index) != set(other.index):
        raise MetricError(f"the reference has other rows of {metric!r}: other attacks, radii, layers or roles")
    theirs = {index: (value, reason) for index, value, _, reason in other.itertuples(name=None)}
    for index, value, n, reason in own.itertuples(name=None):
        other_value, other_reason = theirs[index]
        yield (
            dict(zip(keys, index, strict=True)),
            value,
            other_value,
            n,
            _either(reason if math.isnan(value) else None, other_reason if math.isnan(other_value) else None),
        )


def why(run: Evidence, reference: Evidence, *metrics: str) -> str | None:
    """Why one of these metrics without keys has no value, of the run or of exact retraining; None if all have one."""
    return _either(run.reason(*metrics), reference.reason(*metrics))


def _either(own: str | None, theirs: str | None) -> str | None:
    return own or (f"exact retraining: {theirs}" if theirs else None)


def per_class(labels: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes [K] among the labels, ascending, the share of each that is right, and its size.

    >>> per_class(np.array([2, 0, 2, 2]), np.array([True, True, False, True]))[1].round(2)
    array([1.  , 0.67])
    """
    classes, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return classes, np.bincount(index, weights=right) / sizes, sizes


def disparity(metric: str, values: np.ndarray, sizes: np.ndarray, **keys: Any) -> Row:
    """The row of max - min of the ``values`` [K] of classes of these ``sizes`` [K]; n is the smallest size.

    >>> disparity("spread", np.array([0.5, 1.0]), np.array([3, 2])).value
    0.5
    """
    n = int(sizes.min())
    return Row(metric, float(np.ptp(values)), n, **keys) if len(values) > 1 else no_value(metric, ONE_CLASS, n, **keys)
