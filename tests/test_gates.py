"""Every gate fails on the case it is there for, and passes on an honest evaluation."""

import logging
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from unlearn.analysis.gates import Attack, copies, failed, flag_comparisons, flag_conjectures, gates
from unlearn.api.metrics import Evidence
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.columns import CELL_KEY, DETAIL_KEY
from unlearn.io.schema.composition import COMPOSITION
from unlearn.io.schema.gates import GATES
from unlearn.io.schema.metrics import METRICS
from unlearn.metrics.attack_checks import CROSS_ENTROPY, normalized
from unlearn.stages.collect import collect
from unlearn.stages.gate import gate
from unlearn.stages.measure import frame

RUN = {"arch": "net", "forget": "ten", "method": "cf", "scope": "all", "seed": 0}
RADII = (0.02, 0.05, 0.1, 0.2, 0.5)
CATEGORIES = {"fgsm": "single", "noise": "noise", "square": "black box", "pgd": "iterative", "cascade": "ensemble"}
ATTACKS = {name: Attack("linf", category, "fool") for name, category in CATEGORIES.items()}
HONEST = {
    "fgsm": (0.9, 0.7, 0.4, 0.2, 0.1),
    "noise": (0.95, 0.9, 0.8, 0.6, 0.4),
    "square": (0.9, 0.8, 0.6, 0.3, 0.1),
    "pgd": (0.9, 0.7, 0.35, 0.1, 0.0),
    "cascade": (0.9, 0.68, 0.33, 0.08, 0.0),
}
CHECKS = {"perturbation": 1.0, "out_of_range": 0.0, "not_finite": 0.0}


def measured(curves=HONEST, checks=None, normalized=0.0, n=1000, role="test", **run):
    rows = [{"metric": "normalized_outputs", "value": normalized, "n": n}]
    for attack, shares in curves.items():
        for eps, share in zip((0.0, *RADII), (0.95, *shares), strict=True):
            rows.append(
                {"metric": "robust_accuracy", "attack": attack, "eps": eps, "value": share, "n": n, "role": role}
            )
        for metric, value in {**CHECKS, **((checks or {}).get(attack, {}))}.items():
            rows.append({"metric": metric, "attack": attack, "value": value, "n": 1})
    found = pd.DataFrame([{**RUN, **run, **dict.fromkeys(DETAIL_KEY), **row} for row in rows])
    return found.astype({"role": "string", "attack": "string", "layer": "string", "eps": "Float64", "class": "Int64"})


def failing(table):
    return set(failed(table)[["gate", "attack"]].itertuples(index=False, name=None))


def test_an_honest_evaluation_passes_every_gate(tmp_path):
    table = gates(measured(), ATTACKS)
    assert failing(table) == set()
    assert table["passed"].notna().all()
    assert set(table["gate"]) == {
        *("norm", "range", "finite", "logits", "monotone", "ends_at_zero", "iterative", "white_box", "losses")
    }
    tables.write(GATES, tmp_path / "gates.parquet", table, {})


CASES = {
    "a larger radius helps the model": ({"pgd": (0.9, 0.7, 0.09, 0.1, 0.0)}, {("monotone", "pgd")}),
    "something survives everything": ({"pgd": (0.9, 0.7, 0.35, 0.1, 0.05)}, {("ends_at_zero", "pgd")}),
    "steps too short": ({"pgd": (0.9, 0.75, 0.45, 0.1, 0.0)}, {("iterative", "pgd"), ("losses", "pgd")}),
    "worse than noise": ({"fgsm": (0.95, 0.92, 0.8, 0.4, 0.1)}, {("white_box", "fgsm")}),
    "worse than a black box": (
        {"square": (0.9, 0.6, 0.2, 0.0, 0.0)},
        {("white_box", a) for a in ("fgsm", "pgd", "cascade")},
    ),
    "losses disagree": ({"cascade": (0.84, 0.58, 0.2, 0.0, 0.0)}, {("losses", "pgd")}),
}


@pytest.mark.parametrize(("change", "expected"), CASES.values(), ids=CASES)
def test_a_wrong_evaluation_fails(change, expected):
    assert failing(gates(measured({**HONEST, **change}), ATTACKS)) == expected


@pytest.mark.parametrize(
    ("gate", "check"),
    [("norm", {"perturbation": 1.01}), ("range", {"out_of_range": 1e-6}), ("finite", {"not_finite": 1.0})],
)
def test_perturbations_out_of_bounds_fail(gate, check):
    assert failing(gates(measured(checks={"pgd": check}), ATTACKS)) == {(gate, "pgd")}


def test_outputs_that_are_no_logits_fail_all_attacks():
    assert failing(gates(measured(normalized=1.0), ATTACKS)) == {("logits", attack) for attack in ATTACKS}


def test_chance_and_one_image_are_allowed():
    curves = {**HONEST, "pgd": (0.9, 0.7, 0.4 + 0.01 + 0.001, 0.1, 0.0), "cascade": (0.9, 0.68, 0.31, 0.08, 0.0)}
    assert failing(gates(measured(curves), ATTACKS)) == set()
    assert failing(gates(measured(curves, n=10**6), ATTACKS)) == {("iterative", "pgd"), ("losses", "pgd")}


def test_nothing_to_compare_with_is_said():
    alone = {name: ATTACKS[name] for name in ("pgd",)}
    table = gates(measured({"pgd": HONEST["pgd"]}), alone).set_index("gate")
    assert table.loc[["iterative", "white_box", "losses"], "passed"].isna().all()
    assert table.loc[["iterative", "white_box", "losses"], "against"].isna().all()
    assert table.loc[["monotone", "norm", "logits"], "passed"].all()


def test_norms_are_not_compared():
    other = {**ATTACKS, "square": Attack("l2", "black box", "fool")}
    curves = {**HONEST, "square": (0.1, 0.0, 0.0, 0.0, 0.0)}
    assert failing(gates(measured(curves), other)) == set()


def test_other_roles_do_not_count():
    forget = measured({**HONEST, "pgd": (0.9, 0.95, 0.9, 0.9, 0.9)}, role="forget")
    forget = forget[forget["metric"] == "robust_accuracy"]
    assert failing(gates(pd.concat([measured(), forget]), ATTACKS)) == set()


def test_a_failed_gate_flags_the_cell_and_what_is_measured_against_it():
    bad = CASES["losses disagree"][0]
    cells = [("cf", {}), ("retrain", bad), ("salun", {}), ("original", {})]
    of_forgets = [("ten", cells), ("other", [("cf", bad), ("salun", {})])]
    frames = [
        measured({**HONEST, **change}, method=method, forget=forget)
        for forget, found in of_forgets
        for method, change in found
    ]
    keys = [*CELL_KEY, "metric", *DETAIL_KEY]
    metrics = pd.concat(frames)
    flagged = flag_comparisons(metrics[keys].drop_duplicates().reset_index(drop=True), gates(metrics, ATTACKS))
    hit = flagged.loc[flagged["failed_gates"] != "", ["forget", "method", "attack"]]
    hit = set(hit.itertuples(index=False, name=None))
    assert hit == {("ten", m, "pgd") for m in ("cf", "retrain", "salun", "original")} | {("other", "cf", "pgd")}
    assert set(flagged["failed_gates"]) == {"", "losses"}


def test_doubtful_verdicts_say_so():
    table = gates(measured({**HONEST, **CASES["losses disagree"][0]}), ATTACKS)
    rows = [("net", "pgd", "the interval includes 0"), ("net", "cascade", "why"), ("net", None, ""), ("vit", "pgd", "")]
    found = flag_conjectures(pd.DataFrame(rows, columns=["arch", "attack", "reason"]), table)
    assert found["reason"].tolist() == ["the interval includes 0; gates failed: losses", "why", "", ""]


@pytest.fixture
def copied():
    """The gates of copies of two forget sets, one with copies in what is retained, and the metrics they are of."""
    cells = [("ten", "cf"), ("ten", "retrain"), ("other", "cf")]
    metrics = pd.concat([measured(forget=forget, method=method) for forget, method in cells])
    rows = [(f, "all", None, 50, 0, 9) for f in ("ten", "other")]
    rows += [(f, "copies of", "forget", 4, n, 2) for f, n in (("ten", 3), ("other", 0))]
    rows += [(f, "copies of", "retain", 3, 7, 5) for f in ("ten", "other")]
    return copies(metrics, pd.DataFrame(rows, columns=COMPOSITION.schema.names[:6])), metrics


def test_copies_of_forgotten_images_are_a_gate(copied, tmp_path):
    table, _ = copied
    found = table[["forget", "method", "gate", "value", "limit", "passed", "n"]].to_numpy().tolist()
    assert found == [
        *(["ten", method, "copies", 3.0, 0.0, False, 50] for method in ("cf", "retrain")),
        ["other", "cf", "copies", 0.0, 0.0, True, 50],
    ]
    assert table[["attack", "against"]].isna().all(axis=None)
    tables.write(GATES, tmp_path / "gates.parquet", table, {})


def test_copies_flag_every_comparison_and_every_verdict(copied):
    table, metrics = copied
    bad = gates(measured({**HONEST, **CASES["losses disagree"][0]}, forget="other", method="cf"), ATTACKS)
    keys = [*CELL_KEY, "metric", *DETAIL_KEY]
    flagged = flag_comparisons(
        metrics[keys].drop_duplicates().reset_index(drop=True), pd.concat([table, bad], ignore_index=True)
    )
    assert set(flagged.loc[flagged["forget"] == "ten", "failed_gates"]) == {"copies"}
    assert set(flagged.loc[flagged["forget"] == "other", "failed_gates"]) == {"", "losses"}
    rows = [("net", "pgd", "why"), ("net", None, ""), ("vit", None, "")]
    found = flag_conjectures(pd.DataFrame(rows, columns=["arch", "attack", "reason"]), table)
    assert found["reason"].tolist() == ["why; gates failed: copies", "gates failed: copies", ""]


def test_the_stage_joins_the_gates(copied, tmp_path, caplog):
    logging.getLogger("unlearn").propagate = True
    _, metrics = copied
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("metrics", "composition", "out")}
    tables.write(METRICS, paths["metrics"], metrics.assign(reason=None), {})
    shares = [1.0, 1.0]
    for forget, retained in (("ten", 3), ("other", 0)):
        rows = {"by": ["all", "copies of"], "value": [None, "forget"], "forgotten": [50, 4], "retained": [0, retained]}
        rows |= {"forget": forget, "test": 0, "share_of_forgotten": shares, "share_of_training": shares}
        tables.write(COMPOSITION, tmp_path / f"{forget}.parquet", rows, {})
    collect("composition", [str(tmp_path / f"{forget}.parquet") for forget in ("ten", "other")], paths["composition"])
    settings = {name: vars(attack) for name, attack in ATTACKS.items()}
    gate(**paths, retrained=[], settings=settings, confidence=0.95)
    table = tables.read(GATES, paths["out"]).to_pandas()
    assert set(failed(table)["gate"]) == {"copies"}
    assert len(table) == len(gates(metrics, ATTACKS)) + 3 + 1, "copies of three runs, independence of one"
    assert "gate copies fails in 2 runs" in caplog.text


def test_a_study_without_curves_says_that_no_gate_could_hold_them():
    plain = measured()
    table = gates(plain[plain["metric"] != "robust_accuracy"], ATTACKS)
    of_pgd = table[table["attack"] == "pgd"].set_index("gate")["passed"]
    curves = ["monotone", "ends_at_zero", "iterative", "white_box", "losses"]
    assert of_pgd[curves].isna().all()
    assert of_pgd[["norm", "range", "finite", "logits"]].all()


def test_normalized():
    logits = np.array([[1.0, 2.0, 3.0], [0.2, 0.3, 0.5], [0.0, 0.0, 0.0]])
    assert normalized(logits) == pytest.approx(1 / 3)
    assert normalized(np.log([[0.2, 0.3, 0.5]])) == 1.0
    assert normalized(logits[:1] - 100) == 0.0


def test_cross_entropy_attacks_are_known():
    """A new attack on the cross-entropy has to be named where ``gradient_masking`` is measured."""
    assert set(CROSS_ENTROPY) <= {*plugins.names("attacks"), "apgd_ce"}


# --- real attacks on models that are made to deceive ----------------------------------------------


@pytest.fixture(scope="module")
def deceivers():
    """Name → (model, settings of attacks): one classifier in three disguises, and one attacked badly."""
    import torch
    from torch import nn

    class Scaled(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return 1e4 * self.model(x)

    class Masked(Scaled):
        """Rounds its input to sixteen levels, so that no gradient passes."""

        def forward(self, x):
            return self.model((x * 15).round() / 15)

    class Softmax(Scaled):
        def forward(self, x):
            return self.model(x).softmax(1)

    torch.manual_seed(0)
    images = torch.rand(60, 1, 8, 8)
    labels = (images[:, 0, :4].mean((1, 2)) > images[:, 0, 4:].mean((1, 2))).long() + 2 * (
        images[:, 0, :, :4].mean((1, 2)) > images[:, 0, :, 4:].mean((1, 2))
    ).long()
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return (
        images,
        labels,
        {"honest": model, "scaled": Scaled(model), "gradient_masking": Masked(model), "softmax": Softmax(model)},
    )


def evaluated(deceivers, name, attacks=tuple(CATEGORIES), **own):
    """The gates table of a model under some ``attacks``, and the share of images with masked gradients by attack."""
    import torch

    from unlearn.evaluation.attack_search import search
    from unlearn.metrics import attack_checks, robust_accuracy
    from unlearn.models.images import ImageSet

    pixels, labels, models = deceivers
    images = ImageSet(torch.arange(60), (pixels * 255).round().to(torch.uint8), labels)
    tabled, checks = [], {}
    for attack in attacks:
        plugin = plugins.load("attacks", attack)
        settings = plugins.settings("attacks", attack, own.get(attack, {}))
        found = search(models[name], images, RADII, lambda m, e, p=plugin, s=settings: p.build(m, e, s), 0)
        tabled.append(
            pd.DataFrame({"attack": attack, "role": "test", "label": labels, "eps": found.eps, "by": found.by})
        )
        checks[attack] = {**asdict(found.checks), "members": found.members}
    with torch.no_grad():
        logits = models[name](pixels).numpy()
    roles = np.array(["test", "retain", "forget"])[np.arange(60) % 3]
    evidence = Evidence(
        pd.DataFrame({"id": range(60), "role": roles, "label": labels}),
        logits,
        adversarial=pd.concat(tabled),
        radii=dict.fromkeys(attacks, RADII),
        checks=checks,
    )
    rows = [*robust_accuracy.compute(evidence), *attack_checks.compute(evidence)]
    return gates(frame(rows).assign(**RUN), {name: ATTACKS[name] for name in attacks}), {
        r.attack: r.value for r in rows if r.metric == "gradient_masking"
    }


def test_an_honest_model_passes(deceivers):
    table, masked = evaluated(deceivers, "honest")
    assert failing(table) == set()
    assert masked["cascade"] <= 0.05


@pytest.mark.slow
def test_large_logits_are_found_out(deceivers):
    """PGD reports robustness that is not there; the cascade sees through it and passes."""
    table, masked = evaluated(deceivers, "scaled")
    assert {("losses", "pgd"), ("white_box", "pgd")} <= failing(table)
    assert {attack for _, attack in failing(table)} <= {"pgd", "fgsm"}
    assert masked["cascade"] > 0.1


@pytest.mark.slow
def test_masked_gradients_are_found_out(deceivers):
    assert {("white_box", a) for a in ("fgsm", "pgd", "cascade")} <= failing(
        evaluated(deceivers, "gradient_masking")[0]
    )


def test_short_steps_are_found_out(deceivers):
    table, _ = evaluated(deceivers, "honest", ("fgsm", "pgd"), pgd={"steps": 3, "relative_step": 0.1})
    assert ("iterative", "pgd") in failing(table)


def test_probabilities_are_found_out(deceivers):
    assert ("logits", "cascade") in failing(evaluated(deceivers, "softmax", ("cascade",))[0])
