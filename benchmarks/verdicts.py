"""How often the verdicts of a study without any relation say that there is one, and how often intervals hold the truth.

`python benchmarks/verdicts.py --studies 400` (about 40 CPU minutes) prints a row per kind of study: seeds × cells ×
spread between methods (0, 1 or 3 times that between runs). Every value is a cell's effect, plus a seed's, plus a run's.
`false`: share of studies without a relation that the project's own rule calls supported or contradicted (to be at most
0.07). `coverage`: share of 95 % intervals that hold the true value (at least 0.90), with and without a relation.
"""

import argparse
import itertools

import numpy as np
import pandas as pd

from unlearn.analysis import conjectures, correlations
from unlearn.analysis.comparisons import two_way
from unlearn.analysis.conjectures import Finding, Settings

CONFIDENCE, RESAMPLES = 0.95, 400
SETTINGS = Settings(CONFIDENCE, RESAMPLES, 0, "attack", {"attack": 0.1})
RELATED = 0.6  # correlation of both sides where there is a relation


def effects(rng: np.random.Generator, cells: int, seeds: int, spread: float, related: float, sides: int) -> np.ndarray:
    """[sides, cells, seeds]: effects of cells and runs correlate by ``related`` between the first two sides."""
    mix = np.eye(sides)
    mix[1, :2] = related, np.sqrt(1 - related**2)
    of_cell = mix @ rng.normal(size=(sides, cells)) * spread
    of_run = np.tensordot(mix, rng.normal(size=(sides, cells, seeds)), 1)
    return of_cell[:, :, None] + rng.normal(size=(sides, 1, seeds)) + of_run


def correlation(
    statistic: str, rng: np.random.Generator, cells: int, seeds: int, spread: float, related: float
) -> Finding:
    """The finding of a study on the relation of fairness-gap and robustness drop."""
    sides = effects(rng, cells, seeds, spread, related, 3)
    resampling = correlations.Resampling(cells, seeds, RESAMPLES, int(rng.integers(2**32)))
    x, y, z = (correlations.Column(side, resampling) for side in sides)
    outcome = correlations.spearman([x], y) if statistic == "spearman" else correlations.partial_spearman([x], y, z)
    (row,) = correlations.summaries(outcome, resampling, CONFIDENCE)
    return Finding("c", "net", None, None, "x", "y", statistic, *row, cells, seeds).judged(1, 1 - CONFIDENCE)


def difference(rng: np.random.Generator, cells: int, seeds: int, spread: float, shift: float) -> Finding:
    """The finding of a study on the mean loss of ``cells`` approximate methods, for a true ``shift``."""
    values = effects(rng, cells, seeds, spread, 0, 2)[0] + shift
    low, high, p = two_way(values, CONFIDENCE)
    found = Finding("c", "net", None, None, "x", "y", "mean_difference", values.mean(), low, high, p, cells, seeds)
    return found.judged(1, 1 - CONFIDENCE)


def training(rng: np.random.Generator, seeds: int, spread: float) -> Finding:
    """The finding of a study on accuracy and fairness-gap along pretraining, of trajectories that wander by chance."""
    epochs = np.arange(7)
    rows = []
    for seed in range(seeds):
        gap = rng.normal(size=len(epochs)).cumsum() + spread * rng.normal() * epochs
        rows += [("net", seed, e, e + rng.normal() / 10, g) for e, g in zip(epochs, gap, strict=True)]
    columns = ["arch", "seed", "epoch", "accuracy", conjectures.GAP]
    return conjectures.trained_is_fair("net", pd.DataFrame(rows, columns=columns), SETTINGS)


def summary(findings: list[Finding], truth: float) -> tuple[float, float]:
    """Share of verdicts that find something, and share of the intervals, where there is one, that hold ``truth``."""
    verdicts = [f.verdict in ("supported", "contradicted") for f in findings]
    held = [f.low <= truth <= f.high for f in findings if f.low is not None and not np.isnan(f.low)]
    return float(np.mean(verdicts)), float(np.mean(held)) if held else np.nan


def enough(rng: np.random.Generator, seeds: int, shift: float) -> Finding:
    """The finding on one method whose narrow scope is worse by ``shift`` retrain-retrain spreads, at half the time."""
    spread = 2 / np.sqrt(np.pi)  # mean difference of two normal values
    rows = []
    for seed in range(seeds):
        rows += [("retrain", "all", seed, part, rng.normal()) for part in conjectures.PARTS]
        gaps = 10 + rng.normal() + rng.normal(size=2) + [shift * spread, 0]
        times = np.exp(rng.normal(size=2) / 10 + [np.log(0.5), 0])
        for metric, values in (("average_gap", gaps), ("relative_seconds", times)):
            rows += [("cf", s, seed, metric, v) for s, v in zip(("intermediate+last", "all"), values, strict=True)]
    frame = pd.DataFrame(rows, columns=["method", "scope", "seed", "metric", "value"])
    frame = frame.assign(arch="net", forget="ten", **dict.fromkeys(("role", "attack", "eps", "class", "layer")))
    return next(iter(conjectures.narrow_is_enough("net", frame, SETTINGS)))


def line(*cells: object) -> None:
    texts = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
    print(f"| {' | '.join(texts)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--studies", type=int, default=400, help="a row with a bootstrap; other rows have ten times more"
    )
    parser.add_argument("--only", choices=["correlations", "others"])
    options = parser.parse_args()
    count, many, rng = options.studies, 10 * options.studies, np.random.default_rng(0)
    of_rank = 6 / np.pi * np.arcsin(RELATED / 2)  # Spearman's coefficient of normal values
    line("statistic", "seeds", "cells", "spread", "false", "coverage", "coverage, related")
    line("---", *["--:"] * 6)
    for seeds, cells, spread in itertools.product((3, 5, 10), (8, 12, 24), (0, 1, 3)):
        of = seeds, cells, spread
        if options.only != "correlations":
            none, some = ([difference(rng, cells, seeds, spread, shift) for _ in range(many)] for shift in (0.0, 1.0))
            line("mean_difference", *of, *summary(none, 0), summary(some, 1.0)[1])
        for statistic in ("spearman", "partial_spearman") if options.only != "others" else ():
            none, some = (
                [correlation(statistic, rng, cells, seeds, spread, r) for _ in range(count)] for r in (0, RELATED)
            )
            line(statistic, *of, *summary(none, 0), summary(some, of_rank)[1])
    if options.only == "correlations":
        return
    for seeds, spread in itertools.product((3, 5, 10), (0, 1, 3)):
        found = [training(rng, seeds, spread) for _ in range(many)]
        line("mean_spearman", seeds, "–", spread, *summary(found, 0), "–")
    # A scope that is worse by exactly the limit: neither supported nor contradicted is right.
    for seeds in (3, 5, 10):
        found = [enough(rng, seeds, 1.0) for _ in range(count)]
        line("enough", seeds, "–", "–", *summary(found, 2 / np.sqrt(np.pi)), "–")


if __name__ == "__main__":
    main()
