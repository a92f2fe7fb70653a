"""KLoM: the divergence of margins of unlearned models from those of retrained ones."""

import math
from collections import Counter

import numpy as np
import pytest
from test_ulira import CELL, frame, population

from unlearn.analysis.klom import divergence, klom
from unlearn.io import tables
from unlearn.io.failures import RunFailed, write
from unlearn.io.schema.shadow import SHADOW
from unlearn.io.schema.ulira import ULIRA

LARGEST = math.log(1e5)


def loops(exact, other):
    """The definition, margin by margin."""
    exact, other = ([min(max(float(m), -100), 100) for m in side] for side in (exact, other))
    low, high = min(exact + other), max(exact + other)
    if low == high:
        return 0.0
    counts = [Counter(min(int((m - low) / (high - low) * 20), 19) for m in side) for side in (exact, other)]
    total = 0
    for place, count in counts[0].items():
        p = count / len(exact)
        total += p * math.log(p / max(counts[1][place] / len(other), 1e-5))
    return max(total, 0)


@pytest.mark.parametrize("sizes", [(2, 2), (4, 9), (50, 50), (500, 300)])
@pytest.mark.parametrize("scale", [1, 80])
@pytest.mark.parametrize("seed", range(3))
def test_divergence_by_loops(sizes, scale, seed):
    rng = np.random.default_rng(seed)
    sides = [scale * rng.normal(shift, size=size) for shift, size in zip((0, 0.5), sizes, strict=True)]
    assert divergence(*sides) == pytest.approx(loops(*sides))


def test_divergence_by_hand():
    """Also in its direction: the retrained models' histogram comes first."""
    exact, other = np.array([0, 0, 1, 1.0]), np.array([0, 1, 1, 1.0])
    assert divergence(exact, other) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert divergence(other, exact) == pytest.approx(0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2))


def test_the_largest_margin_counts():
    """A public code loses it: its last bin is open."""
    assert divergence(np.array([1.0]), np.array([0.0])) == pytest.approx(LARGEST)
    assert divergence(np.array([0.0, 1.0]), np.array([0.0, 0.0])) == pytest.approx(
        0.5 * math.log(0.5) + 0.5 * math.log(0.5 / 1e-5)
    )


@pytest.mark.parametrize("margins", [[0.3], [0.3, 0.3], [150, 1e30], [0.3, 0.3 + 1e-16], list(range(50))])
def test_the_same_margins_do_not_diverge(margins):
    """Nor do margins that differ beyond the clip alone."""
    assert divergence(np.array(margins, float), np.array(margins[::-1], float)) == 0
    assert divergence(np.full(3, 150.0), np.full(2, 1e30)) == 0


def test_normal_margins_have_the_divergence_of_their_histograms():
    """Of many models: near that of two normal distributions one deviation apart, 1 / 2."""
    rng = np.random.default_rng(0)
    assert divergence(rng.normal(size=10**5), rng.normal(1, size=10**5)) == pytest.approx(0.5, abs=0.05)


def found(unlearned, retrained):
    return klom(unlearned, retrained).set_index("statistic")


def test_retrained_models_are_at_no_distance_from_themselves():
    shadows = population(16, 100)
    table = found(shadows, shadows.sample(frac=1, random_state=0))
    assert table.loc["klom", "value"] == 0
    assert table.loc["klom_floor", "value"] > 1, "few models differ by chance"


def test_klom_is_the_mean_over_images_by_loops():
    exact, unlearned = population(12, 60, seed=1), population(12, 60, 3, seed=1)
    unlearned["score"] += np.where(unlearned["status"] == "forgotten", 0.3, 0)
    values, floors = [], []
    for image in range(60):
        of = {name: f[f["id"] == image].sort_values("shadow") for name, f in (("e", exact), ("u", unlearned))}
        forgot = {name: f.loc[f["status"] == "forgotten", "score"].to_numpy() for name, f in of.items()}
        unseen = of["e"].loc[of["e"]["status"] == "unseen", "score"].to_numpy()
        if min(map(len, forgot.values())) >= 2:
            values.append(loops(forgot["e"], forgot["u"]))
        if min(len(forgot["e"]), len(unseen)) >= 2:
            floors.append(loops(forgot["e"], unseen[: len(forgot["e"])]))
    table = found(unlearned, exact)
    assert table["value"].tolist() == pytest.approx([np.mean(values), np.mean(floors)])
    assert table["n"].tolist() == [len(values), len(floors)]
    assert table["left_out"].tolist() == [60 - len(values), 60 - len(floors)]
    assert len(values) < 60


def test_klom_sees_what_is_not_forgotten():
    exact, same = population(400, 40, seed=0), population(400, 40, seed=0)
    noise = np.random.default_rng(3).normal(scale=1e-3, size=len(same))
    near, far = same.assign(score=same["score"] + noise), population(400, 40, 2, seed=0)
    floor = found(near, exact)["value"]
    assert floor["klom"] < floor["klom_floor"] < found(far, exact).loc["klom", "value"] / 2


def test_the_stage_writes_it_beside_the_attack(tmp_path):
    from unlearn.stages.ulira import ulira

    def paths(shadows, name, lost=()):
        made = []
        for number, part in shadows.groupby("shadow"):
            made.append(tmp_path / f"{name}{number}.parquet")
            if number in lost:
                write(made[-1], {}, "diverged")
            else:
                tables.write(SHADOW, made[-1], part.reset_index(drop=True), {})
        return made

    unlearned, exact = population(12, 100, 2), population(12, 100).assign(method="retrain")
    exacts = paths(exact, "exact")
    ulira(paths(unlearned, "own", lost=[3]), exacts, tmp_path / "ulira.parquet", 0.95)
    table = tables.read(ULIRA, tmp_path / "ulira.parquet").to_pandas().set_index("statistic")
    own = found(unlearned[unlearned["shadow"] != 3], exact)
    assert table.loc[own.index, "value"].tolist() == pytest.approx(own["value"].tolist())
    assert table.loc[own.index, ["low", "high"]].isna().all(axis=None)
    assert table[list(CELL)].drop_duplicates().to_dict("records") == [CELL]
    with pytest.raises(RunFailed, match="diverged"):
        ulira(paths(unlearned, "own"), paths(exact, "exact", lost=[0]), tmp_path / "other", 0.95)


def test_images_that_few_models_forgot_are_left_out():
    names = {"f": "forgotten", "u": "unseen"}
    images = ["ffuu", "fuuu", "uuuu", "fffu"]
    status = np.array([[names[letter] for letter in image] for image in images]).T
    shadows = frame(np.random.default_rng(0).normal(size=status.shape), status)
    table = found(shadows, shadows)
    assert table[["n", "left_out"]].to_numpy().tolist() == [[2, 2], [1, 3]]
