"""A study of the user's own model, without normalization layers: nothing of it is trained but exact retraining."""

import copy
import shutil

import numpy as np
import pytest
import torch
import yaml
from tiny import WarmCopy

from unlearn.io import tables
from unlearn.io.schema.cost import COST
from unlearn.io.schema.trajectory import TRAJECTORY

pytestmark = pytest.mark.slow

CODE = """
from torch import nn

def build(num_classes, in_chans):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_chans, num_classes))
"""
STUDY = {
    "seeds": [0],
    "archs": ["mine"],
    "forgets": ["listed"],
    "methods": ["cf"],
    "scopes": ["all"],
    "attacks": ["fgsm"],
    "settings": {
        "forgets": {"listed": {"kind": "ids", "file": "forget.txt"}},
        "archs": {
            "mine": {
                "label": "Mine",
                "model": "mine.py:build",
                "train": {"epochs": 2, "lr": 0.05, "batch_size": 64},
                "weights": "original-{seed}.pt",
                "methods": {"cf": {"epochs": 1}},
            }
        },
        "external": {"ours": {"weights": {"mine": "ours.pt"}, "seconds": 412}},
        "analysis": {"resamples": 100},
    },
}


def solved(chosen):
    """The state of the linear model that least squares give on chosen images of digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = np.c_[(x[chosen] / 16 - 0.3) / 0.38, np.ones(len(x[chosen]))]
    found = torch.tensor(np.linalg.lstsq(x, np.eye(10)[y[chosen]], rcond=None)[0], dtype=torch.float32)
    return {"1.weight": found[:-1].T.contiguous(), "1.bias": found[-1]}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = WarmCopy(tmp_path_factory.mktemp("project"), yaml.safe_dump(STUDY))
    (made.root / "mine.py").write_text(CODE)
    torch.save({"state_dict": {f"module.{k}": v for k, v in solved(slice(None)).items()}}, made.root / "original-0.pt")
    torch.save(solved(slice(100, None)), made.root / "ours.pt")
    yield made
    made.close()


def test_it_runs_to_the_end(study):
    study.run("all")
    results = study.root / "results/digits"
    assert len(tables.read(TRAJECTORY, results / "trajectory.parquet")) == 0
    run = "runs/mine/listed/ours-all/seed0"
    assert tables.read(COST, results / run / "cost.parquet")["seconds"].to_pylist() == [412]
    page = (results / "tables/main.md").read_text()
    assert "OURS" in page
    assert "nan" not in page
    assert "ours was unlearned elsewhere; its time, 412 s, is as the config says." in page
    assert "Mine: the original is original-{seed}.pt." in (results / "tables/verdicts.md").read_text().replace("\\", "")
    assert study.planned("all") == set()


ORIGINAL = "Adopt: the original mine, seed 0"
OURS = "Adopt: ours of mine, listed, seed 0"
RETRAIN = "Retrain: mine without listed, all layers, seed 0"
CF = "Unlearn: cf on all layers of mine, listed, seed 0"
LAYERS = "Layers of every scope and architecture"


@pytest.mark.parametrize(
    ("file", "made", "kept"),
    [
        ("original-0.pt", {ORIGINAL, CF, LAYERS}, {OURS, RETRAIN}),
        ("ours.pt", {OURS, LAYERS}, {ORIGINAL, CF, RETRAIN}),
        ("mine.py", {ORIGINAL, OURS, CF, RETRAIN, LAYERS}, set()),
    ],
)
def test_a_file_that_is_replaced_is_planned_again(study, file, made, kept):
    path = study.root / file
    before = path.read_bytes()
    path.write_bytes(before + b"#")
    planned = study.planned("all")
    assert made <= planned
    assert not kept & planned
    path.write_bytes(before)
    assert study.planned("all") == set()


def test_weights_of_another_order_are_refused_and_nothing_is_trained(study):
    shutil.copy(study.root / "original-0.pt", study.root / "kept.pt")
    swapped = {name: tensor[[1, 0, *range(2, 10)]] for name, tensor in solved(slice(None)).items()}
    torch.save(swapped, study.root / "original-0.pt")
    try:
        done = study.snakemake("--keep-going", "all", "--config", "study=fresh")
        assert done.returncode == 1
        said = {line.split()[0] for line in done.stderr.splitlines() if "most images of 0 are called 1" in line}
        assert said == {"layers:", "seed0:", "unlearn:"}, "the stage, the adoption and exact retraining"
        assert "settings.archs.mine.weights: original-0.pt: " in done.stderr
        kept = {
            str(path.relative_to(study.root / "results/fresh"))
            for path in study.root.rglob("fresh/**/model.safetensors")
        }
        assert kept == {"runs/mine/listed/ours-all/seed0/model.safetensors"}
    finally:
        shutil.move(study.root / "kept.pt", study.root / "original-0.pt")


def test_a_retrained_model_and_a_start_are_given(study):
    """In the place of their jobs, with the seed of tuning and others left to the recipe."""
    for name in ("listed-0", "listed-1"):
        shutil.copy(study.root / "ours.pt", study.root / f"retrained-{name}.pt")
    more = copy.deepcopy(STUDY) | {"study": "both", "seeds": [0, 1], "tune": True}
    own = {"init": "ours.pt", "retrained": "retrained-{forget}-{seed}.pt", "weights": "original-0.pt"}
    more["settings"]["archs"]["mine"].update(own)
    more["settings"]["external"] = {}
    (study.root / "more.yaml").write_text(yaml.safe_dump(more))
    planned = study.planned("all", "--configfile", "more.yaml")
    assert {f"Adopt: retrain of mine, listed, seed {seed}" for seed in (0, 1)} <= planned
    assert {f"Adopt: the original mine, seed {seed}" for seed in (0, 1)} <= planned
    assert {job for job in planned if job.startswith(("Pretrain", "Retrain"))} == {
        "Pretrain: mine, seed 1000",
        "Retrain: mine without listed, all layers, seed 1000",
    }
