"""Robust accuracy per attack, radius and role, and the area under its curve.

An image is robust at eps if it is classified correctly and no perturbation that the attack found within eps changes
that. Stored is the smallest such radius per image, so the curve cannot rise. ``robust_given_correct`` divides by clean
accuracy. ``aurc`` is the area under robust accuracy from 0 to the largest radius, by trapezoids, divided by that
radius: unlike robust accuracy at one radius (Croce et al. 2021, arXiv:2010.09670) it does not depend on a choice among
the radii.
"""

import numpy as np

from unlearn.api.metrics import Evidence, Metric, Row, Rows, no_value

METRICS = {
    "robust_accuracy": Metric("robust accuracy", "match_retrain", 0, 1),
    "robustness_drop": Metric("robustness drop", "match_retrain", 0, 1),
    "robust_given_correct": Metric("robust accuracy / clean", "match_retrain", 0, 1),
    "aurc": Metric("area under the robust accuracy curve", "match_retrain", 0, 1),
}


def robust_share(smallest: np.ndarray, radii: tuple[float, ...]) -> np.ndarray:
    """Shares [1 + R] of images not fooled at 0 (clean) and at each of R ascending ``radii``.

    ``smallest`` [N]: the radius that fools an image, 0 if it is wrong without any, NaN if none does.

    >>> robust_share(np.array([0.0, 0.1, np.nan, 0.2]), (0.1, 0.2))
    array([0.75, 0.5 , 0.25])
    """
    return 1 - (smallest[:, None] <= np.array([0.0, *radii]) + 1e-12).mean(0)


def area(shares: np.ndarray, radii: tuple[float, ...]) -> float:
    """Area under ``shares`` at 0 and at each radius, divided by the largest radius.

    >>> area(np.array([1.0, 0.5, 0.0]), (0.1, 0.2))
    0.5
    """
    return float(np.trapezoid(shares, [0.0, *radii]) / radii[-1])


def compute(run: Evidence) -> Rows:
    """robust_accuracy at eps 0 is clean accuracy on the attacked images; the drop is clean - robust. n counts images.

    ``robust_given_correct`` is not defined on forget images: a model that forgot them all has no correct ones.
    """
    attacked = run.adversarial[run.counted(run.adversarial)]
    for (attack, role), images in attacked.groupby(["attack", "role"], sort=False):
        radii, n, keys = run.radii[attack], len(images), {"role": role, "attack": attack}
        shares = robust_share(images["eps"].to_numpy(float), radii)
        clean = float(shares[0])
        for eps, value in zip((0.0, *radii), map(float, shares), strict=True):
            yield Row("robust_accuracy", value, n, eps=eps, **keys)
            if eps:
                yield Row("robustness_drop", clean - value, n, eps=eps, **keys)
            if eps and role != "forget":
                yield (
                    Row("robust_given_correct", value / clean, round(clean * n), eps=eps, **keys)
                    if clean
                    else no_value("robust_given_correct", "no attacked image is classified correctly", eps=eps, **keys)
                )
        yield Row("aurc", area(shares, radii), n, **keys)
