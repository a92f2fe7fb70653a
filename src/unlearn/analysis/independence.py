"""Whether exact retraining can tell what was forgotten.

"independence": exact retraining is a reference only if it has not seen the forgotten images. It fails if it agrees with
the original on them more than models can that are trained apart, if it starts from weights that already classify them,
and if it trains for no epoch. All comparisons with it are flagged then.

"effect": what retraining changes must be more than what retraining once more would change, or the study cannot measure
forgetting. docs/statistics.md argues for both statistics.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from scipy import stats

from unlearn.analysis.gates import COLUMNS, EFFECT, INDEPENDENCE, typed
from unlearn.io.columns import RUN_KEY
from unlearn.run import ALL, ORIGINAL, REFERENCE, RETRAIN

RARE = 0.001  # how seldom models that are trained apart agree so much
EFFECTS = {"ua": "UA", "mia_efficacy": "MIA-efficacy"}  # by how they are printed


def independence(metrics: pd.DataFrame, made: Sequence[Mapping[str, Any]], confidence: float) -> pd.DataFrame:
    """Rows of the gates table about exact retraining. ``made``: of each retrained model the ``run``, its ``settings``
    and, if it starts from weights of a file, ``start``: accuracy on the forgotten images, and the limit of chance."""
    rows = [(*run, INDEPENDENCE, None, *row) for run, row in _agreeing(metrics)]
    for one in made:
        run = tuple(one["run"][key] for key in RUN_KEY)
        epochs = one["settings"].get("method", {}).get("epochs")  # unknown of a model that was retrained elsewhere
        if epochs is not None:
            rows.append((*run, INDEPENDENCE, None, "training", float(not epochs), 0.0, epochs > 0, None))
        if found := one.get("start"):
            value, limit = found["accuracy"], found["limit"]
            rows.append((*run, INDEPENDENCE, None, "start", value, limit, value <= limit, found["n"]))
    rows += [(*run, EFFECT, None, *row) for run, row in _effects(metrics, confidence)]
    return typed(pd.DataFrame(rows, columns=COLUMNS))


def most_agreement(forgotten: int, test: float) -> float:
    """The largest share of ``forgotten`` images on which models that are trained apart agree, but for one case in a
    thousand; ``test``: the share of test images on which these two do. 1 if so few images cannot tell.

    Where one model errs on a test image and the other does not, they disagree there; on forgotten images only the
    retrained one errs. So the rate there is at least half of that on test images.

    >>> most_agreement(1000, 0.95), most_agreement(10, 0.95)
    (0.989, 1.0)
    """
    return 1 - float(stats.binom.ppf(RARE, forgotten, (1 - test) / 2)) / forgotten


def _agreeing(metrics: pd.DataFrame) -> Iterator[tuple[tuple, tuple]]:
    """(run of exact retraining, columns of its row): how much it agrees with the original of its seed."""
    found = metrics[(metrics["metric"] == "agreement") & (metrics["method"] == ORIGINAL)]
    by_run = {key: rows.set_index("role") for key, rows in found.groupby(["arch", "forget", "seed"])}
    for run in metrics.loc[_exact(metrics), list(RUN_KEY)].drop_duplicates().itertuples(index=False, name=None):
        arch, forget, _, _, seed = run
        same = by_run.get((arch, forget, seed), found[:0])
        if not {"forget", "test"} <= set(same.index):
            yield run, (ORIGINAL, None, 1.0, None, None)
            continue
        (value, n), test = same.loc["forget", ["value", "n"]], same.loc["test", "value"]
        limit = most_agreement(int(n), float(test))
        if value == test == 1:  # nothing tells the two apart, so they must differ on one image
            limit = 1 - 1 / n
        passed = None if value == limit == 1 else value <= limit
        yield run, (ORIGINAL, value, limit, passed, n)


def _effects(metrics: pd.DataFrame, confidence: float) -> Iterator[tuple[tuple, tuple]]:
    """(run of exact retraining, columns of its row): value is the noise, limit what retraining changes."""
    controls = metrics[metrics["method"].isin((ORIGINAL, RETRAIN)) & (metrics["scope"] == ALL)]
    for (arch, forget, metric), rows in controls[controls["metric"].isin(EFFECTS)].groupby(
        ["arch", "forget", "metric"], sort=False
    ):
        by_seed = rows.pivot(index="seed", columns="method", values="value")
        if not {ORIGINAL, RETRAIN} <= set(by_seed):
            continue
        pairs, n = by_seed.dropna(), int(rows["n"].iloc[0])
        change = abs(float((pairs[ORIGINAL] - pairs[RETRAIN]).mean())) if len(pairs) else None
        value = noise(pairs[RETRAIN], n, confidence) if len(pairs) else None
        for seed in by_seed.index:
            passed = None if value is None else value < change
            yield (arch, forget, *REFERENCE, seed), (metric, value, change or 0.0, passed, n)


def noise(retrained: Sequence[float], images: int, confidence: float) -> float:
    """What the means of two sets of exact retrainings differ by at most, at this confidence, if nothing but chance
    tells them apart: t s √(2/k) for k seeds with standard deviation s.

    One seed has no s. The share p of ``images`` then has the binomial standard error, with two successes and two
    failures added (Agresti & Coull 1998): for images that flip independently of each other it is no less than s.

    >>> round(noise([0.04, 0.06, 0.05], 1000, 0.95), 4), round(noise([0.05], 1000, 0.95), 4)
    (0.0351, 0.0194)
    """
    k = len(retrained)
    if k > 1:
        return float(stats.t.ppf((1 + confidence) / 2, k - 1) * pd.Series(retrained).std() * math.sqrt(2 / k))
    p = (sum(retrained) * images + 2) / (images + 4)
    return float(stats.norm.ppf((1 + confidence) / 2) * math.sqrt(2 * p * (1 - p) / images))


def _exact(frame: pd.DataFrame) -> pd.Series:
    return (frame["method"] == REFERENCE[0]) & (frame["scope"] == REFERENCE[1])
