"""What a study asks of its models is tried before any is trained."""

import contextlib
import dataclasses
import re

import pytest
import yaml
from conftest import CLASSES, NETS, SHAPE
from tiny import Copy

from unlearn.io import tables
from unlearn.io.schema.layers import LAYERS as TABLE
from unlearn.models import scopes
from unlearn.models.classifier import ModelError, Spec, create
from unlearn.models.scopes import ScopeError
from unlearn.runtime import runner
from unlearn.stages.layers import LayersSettings, check, layers

SCOPES = ["last", "intermediate+last", "groups: 0", "groups: 2-3"]
SETTINGS = LayersSettings({"bn": NETS["batchnorm"], "ln": NETS["layernorm"]}, SCOPES, "digits", 2)
SHALLOW = {**NETS["layernorm"], "args": {**NETS["layernorm"]["args"], "depth": 2}}


def told(dataset, tmp_path, **changes):
    """The table of the stage, as a frame."""
    out = tmp_path / "layers.parquet"
    layers(dataset, str(out), dataclasses.replace(SETTINGS, **changes), "cpu")
    return tables.read(TABLE, out).to_pandas()


def test_every_scope_of_every_architecture_and_all_layers(dataset, tmp_path):
    found = told(dataset, tmp_path)
    names = ["last", "intermediate+last", "groups0", "groups2-3", "all"]
    assert list(zip(found["arch"], found["scope"])) == [(arch, scope) for arch in ("bn", "ln") for scope in names]
    whole = found[found["scope"] == "all"]
    assert (whole[["parameter_share", "layer_share"]] == 1).all(axis=None)


@pytest.mark.parametrize("arch", ["bn", "ln"])
def test_counts_are_of_what_may_move(dataset, tmp_path, arch):
    model = create(Spec(classes=CLASSES, shape=SHAPE, **SETTINGS.archs[arch]), 0)
    whole = sum(p.numel() for p in model.parameters())
    for row in told(dataset, tmp_path).query("arch == @arch").itertuples():
        scopes.freeze(model, row.scope)
        moving = [p for p in model.parameters() if p.requires_grad]
        assert row.parameters == sum(p.numel() for p in moving) > 0
        assert row.parameter_share == row.parameters / whole
        own = [list(module.parameters(recurse=False)) for module in model.modules()]
        assert row.layers == sum(all(p.requires_grad for p in found) for found in own if found)


@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        (
            {"scopes": ["all", "groups: 40-41"]},
            ScopeError,
            "scopes.1: 'groups: 40-41': model 'resnet18' has groups 0 to 5 (settings.archs.bn)",
        ),
        (
            {"archs": {"shallow": SHALLOW}, "scopes": ["last"]},
            ScopeError,
            "scopes.0: 'last': model 'vit_tiny_patch16_224' has 2 groups between stem and head, needs 3 "
            "(settings.archs.shallow)",
        ),
        (
            {"archs": {"x": {**SHALLOW, "model": "resnet19"}}},
            ModelError,
            "settings.archs.x: model 'resnet19' is neither timm's nor smallvit",
        ),
        (
            {"crop": 8},
            ModelError,
            "settings.datasets.digits.augment.crop: 8 leaves crops of nothing but padding, images are 8x8",
        ),
    ],
)
def test_refuses_what_the_models_do_not_have(dataset, tmp_path, changes, error, line):
    with pytest.raises(error, match=f"^{re.escape(line)}$"):
        told(dataset, tmp_path, **changes)
    assert not (tmp_path / "layers.parquet").exists()


def test_a_shallow_model_may_run_as_a_whole(dataset, tmp_path):
    assert told(dataset, tmp_path, archs={"shallow": SHALLOW}, scopes=["all"])["scope"].tolist() == ["all"]


# --- before training ------------------------------------------------------------------------------


def test_a_job_that_trains_believes_a_current_table_alone(dataset, tmp_path):
    table = str(tmp_path / "layers.parquet")
    told(dataset, tmp_path)
    check(table, "absent.parquet", SETTINGS, "cpu")  # builds nothing
    bad = dataclasses.replace(SETTINGS, scopes=["groups: 40-41"])
    for path in (table, str(tmp_path / "absent.parquet")):
        check(path, dataset, dataclasses.replace(SETTINGS, crop=1), "cpu")
        with pytest.raises(ScopeError, match=r"^scopes\.0: 'groups: 40-41': "):
            check(path, dataset, bad, "cpu")


@pytest.mark.parametrize(
    ("stage", "trains"),
    [("pretrain", True), ("unlearn", True), ("tune", True), ("shadow", True), ("predict", False), ("radii", False)],
)
def test_jobs_that_train_look_ahead(dataset, stage, trains):
    settings = dataclasses.asdict(dataclasses.replace(SETTINGS, scopes=["groups: 40-41"]))
    request = {
        "layers": {"table": "absent.parquet", "settings": settings},
        "files": {"dataset": dataset},
        "arguments": {"device": "cpu"},
    }
    with pytest.raises(ScopeError) if trains else contextlib.nullcontext():
        runner._look_ahead(runner._stage(f"unlearn.stages.{stage}"), request)


# --- in the workflow ------------------------------------------------------------------------------

STUDY = {
    "seeds": [0],
    "archs": ["net"],
    "forgets": ["random10"],
    "methods": ["cf"],
    "scopes": ["all", "groups: 40-41"],
    "attacks": ["fgsm"],
    "settings": {"archs": {"net": {**NETS["batchnorm"], "label": "Net", "train": {"epochs": 1}}}},
}
STUDY["settings"]["archs"]["net"].pop("normalize")


@pytest.mark.slow
def test_nothing_is_trained_for_a_scope_that_a_model_lacks(tmp_path):
    done = Copy(tmp_path, yaml.safe_dump(STUDY)).snakemake("--keep-going", "all")
    assert done.returncode == 1
    refused = "scopes.1: 'groups: 40-41': model 'resnet18' has groups 0 to 5"
    said = {line.split()[0] for line in done.stderr.splitlines() if refused in line}
    assert said == {"layers:", "seed0:", "unlearn:"}, "the stage, pretraining and exact retraining"
    assert not list((tmp_path / "results").rglob("*.safetensors"))
