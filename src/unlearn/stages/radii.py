"""radii: the radii at which a study attacks, from the config or calibrated on its original models."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from unlearn.config import plugins
from unlearn.evaluation.attack_search import search
from unlearn.io import tables
from unlearn.io.schema.radii import RADII
from unlearn.models import checkpoint, images
from unlearn.models.classifier import Classifier
from unlearn.models.device import prepare

log = logging.getLogger("unlearn")

LEVELS = (0.75, 0.5, 0.25, 0.05)  # of clean accuracy; the second is the headline
ATTACKS = {"linf": "pgd", "l2": "pgd_l2"}
RANGE = {"linf": (1e-4, 1.0), "l2": (1e-3, 100.0)}
HALVINGS = 12
SAMPLE = 100
BEYOND = 2.0  # the last radius, as a multiple of the largest calibrated: nothing may be robust there


class CalibrationError(RuntimeError):
    """An original model whose curve of robust accuracy gives no grid."""


def radii(
    out: str, settings: dict[str, Any], originals: Sequence[str] = (), dataset: str | None = None, device: str = "cpu"
) -> None:
    """``settings``: per norm its ``eps`` and ``headline``, or None to calibrate it on ``originals``,
    one model per architecture, with ``dataset``'s test images.

    Calibrated radii are those at which PGD leaves 75, 50, 25 and 5 % of an original model's clean
    accuracy, for every architecture, to two digits; the headline is the median architecture's 50 %, of two the smaller.
    They are fixed before any method is compared.
    """
    rows = []
    for norm, given in settings.items():
        eps, headline = (
            (given["eps"], given["headline"]) if given else calibrated(norm, originals, dataset, prepare(device))
        )
        rows += [(norm, e, e == headline) for e in eps]
    columns = dict(zip(("threat_norm", "eps", "headline"), zip(*rows, strict=True), strict=True))
    tables.write(RADII, out, columns, {"settings": settings, "models": list(originals)})


def calibrated(norm: str, originals: Sequence[str], dataset: str, device: torch.device) -> tuple[list[float], float]:
    """The ascending radii and the headline among them. Raises CalibrationError for a model that is
    not fooled, or not right, anywhere."""
    found = images.test_set(dataset)
    chosen = images.stratified(found, SAMPLE, 0).to(device)
    plugin = plugins.load("attacks", ATTACKS[norm])
    own = plugin.Settings()
    per_model = []
    for path in originals:
        net = checkpoint.load(path, device)
        per_model.append(levels(lambda e, net=net: robust(net, chosen, e, norm, plugin, own), RANGE[norm], path))
        log.info("%s, %s: %s", path, norm, ", ".join(f"{e:.3g}" for e in per_model[-1]))
    halves = sorted(radius[1] for radius in per_model)
    radii = sorted({digits(e) for radius in per_model for e in radius})
    return [*radii, digits(BEYOND * radii[-1])], digits(halves[(len(halves) - 1) // 2])


def robust(net: Classifier, chosen: images.ImageSet, eps: float, norm: str, plugin: Any, own: Any) -> float:
    """Robust accuracy at one radius; at 0 the clean one."""
    grid = [eps] if eps else []
    outcome = search(net, chosen, grid, lambda model, e: plugin.build(model, e, own), 0, norm)
    return float(outcome.eps.isnan().double().mean())


def levels(curve: Callable[[float], float], bounds: tuple[float, float], name: str) -> list[float]:
    """Radii at which ``curve`` falls to each of LEVELS of its value at 0, by bisection on a log scale."""
    clean = curve(0.0)
    found = []
    for level in LEVELS:
        low, high = bounds
        if not curve(high) <= level * clean < curve(low):
            raise CalibrationError(f"{name}: robust accuracy does not cross {level:.0%} of {clean:.3f} within {bounds}")
        for _ in range(HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if curve(middle) > level * clean else (low, middle)
        found.append(high)
    return found


def digits(value: float) -> float:
    """Rounded to two significant digits, as it is written in a config.

    >>> digits(0.012345)
    0.012
    """
    return float(f"{value:.2g}")
