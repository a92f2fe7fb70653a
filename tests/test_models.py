"""A classifier holds its own normalization, comes from its seed alone, and survives the disk bit for bit."""

import ast
import dataclasses

import pytest
import torch
from conftest import ROOT
from safetensors.torch import save_file

from unlearn.io.failures import RunFailed
from unlearn.models import checkpoint
from unlearn.models.checkpoint import CheckpointError
from unlearn.models.classifier import ModelError, Spec, create

SMALL = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2, "head_dim": 8, "mlp_dim": 16}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_takes_pixels_and_normalizes_inside(spec):
    spec = dataclasses.replace(spec, normalize={"mean": [0.25], "std": [0.5]})
    model = create(spec, 0).eval()
    x = torch.rand(3, *spec.shape)
    assert torch.equal(model(x), model.net((x - 0.25) / 0.5))
    assert model(x).shape == (3, spec.classes)
    assert not {"mean", "std"} & model.state_dict().keys(), "constants come from the spec"


def test_normalizes_per_channel():
    spec = Spec("smallvit", 2, (3, 8, 8), SMALL, normalize={"mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]})
    model = create(spec, 0).eval()
    x = torch.rand(1, 3, 8, 8)
    shifted = torch.stack([(x[:, 0] - 0.1), (x[:, 1] - 0.2) / 2, (x[:, 2] - 0.3) / 4], 1)
    torch.testing.assert_close(model(x), model.net(shifted))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "resnet1801"}, "'resnet1801' is neither timm's nor smallvit"),
        ({"args": {"layers": "many"}}, "with args"),
        ({"args": {"wings": 2}}, "wings"),
        ({"normalize": {"mean": [0.5, 0.5], "std": [0.5]}}, r"normalize\.mean: 2 numbers for images of 1 channels"),
        ({"model": "vit_tiny_patch16_224", "args": {"img_size": 8, "patch_size": 2}}, "stem: cifar needs a ResNet"),
        ({"model": "smallvit", "stem": "native", "args": {"img_size": 9}}, "not a multiple of patch_size"),
        ({"model": "smallvit", "stem": "native", "args": {"pretrained": True}}, "no pretrained weights"),
    ],
)
def test_refuses(change, message):
    small = {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 4]}
    with pytest.raises(ModelError, match=message):
        create(dataclasses.replace(Spec("resnet18", 4, (1, 8, 8), small, "cifar"), **change), 0)


def test_cifar_stem_keeps_the_resolution():
    spec = Spec("resnet18", 4, (3, 16, 16), {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 4]}, "cifar")
    net = create(spec, 0).net
    assert (net.conv1.kernel_size, net.conv1.stride, net.conv1.bias) == ((3, 3), (1, 1), None)
    x = torch.rand(1, 3, 16, 16)
    assert net.maxpool(net.conv1(x)).shape[-2:] == (16, 16)
    native = create(dataclasses.replace(spec, stem="native"), 0).net
    assert native.maxpool(native.conv1(x)).shape[-2:] == (4, 4)


def test_initialisation_is_the_seeds(spec):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one, other = create(spec, 7).state_dict(), create(spec, 7).state_dict()
    assert same(one, other)
    assert not same(one, create(spec, 8).state_dict())
    assert torch.equal(torch.get_rng_state(), before)


def test_smallvit_is_the_one_of_the_literature():
    model = create(Spec("smallvit", 10, (3, 32, 32)), 0).eval()
    assert sum(p.numel() for p in model.parameters()) == 9_622_512
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_smallvit_tokens_do_not_see_themselves():
    """Locality self-attention: with a single other token, each attends to that one alone."""
    from unlearn.models.smallvit import LocalityAttention

    attention = LocalityAttention(dim=4, heads=2, head_dim=3, drop=0.0).eval()
    x = torch.rand(1, 2, 4)
    value = attention.qkv(x)[..., 12:]
    torch.testing.assert_close(attention(x), attention.project(value.flip(1)))


def test_smallvit_shifts_by_one_pixel_along_the_axes():
    from unlearn.models.smallvit import ShiftedPatches

    patches = ShiftedPatches(channels=1, patch=1, dim=5)
    patches.norm, patches.project = torch.nn.Identity(), torch.nn.Identity()
    x = torch.arange(1.0, 10).view(1, 1, 3, 3)
    assert sorted(patches(x)[0, 4].tolist()) == [2, 4, 5, 6, 8], "the centre beside its four neighbours"
    assert sorted(patches(x)[0, 0].tolist()) == [0, 0, 1, 2, 4], "zeros outside"


# --- on disk --------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_round_trip_is_bit_exact(spec, path):
    model = create(spec, 3).train()
    model(torch.rand(4, *spec.shape))  # moves running statistics
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    checkpoint.save(model, path, {"run": {"seed": 3}})
    loaded = checkpoint.load(path)
    assert same(loaded.state_dict(), before)
    assert loaded.spec == spec
    assert not loaded.training
    assert checkpoint.metadata(path)["run"] == {"seed": 3}
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_weights_that_are_no_numbers(net, path, bad):
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = bad
    with pytest.raises(RunFailed, match=r"^1 tensors of weights are not finite, first net\."):
        checkpoint.save(net, path, {})
    assert not list(path.parent.iterdir())


def test_failed_save_keeps_the_old_file(net, path):
    checkpoint.save(net, path, {})
    before = path.read_bytes()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(RunFailed):
        checkpoint.save(net, path, {})
    assert path.read_bytes() == before


def test_a_save_that_fails_midway_leaves_nothing(net, path, monkeypatch):
    def full_disk(state, part, metadata):
        part.write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(net, path, {})
    assert not list(path.parent.iterdir())


def foreign(path):
    save_file({"a": torch.zeros(1)}, path)


def other_model(path):
    header = checkpoint.metadata(path)["spec"]
    loaded = checkpoint.load(path)
    loaded.spec = Spec.from_json({**header, "classes": header["classes"] + 1})
    checkpoint.save(loaded, path, {})


HARM = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "not a safetensors file"),
    "text": (lambda path: path.write_text("weights of a model, certainly"), "not a safetensors file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-8]), "not a safetensors file"),
    "foreign": (foreign, "not a weights file of this project"),
    "misfit": (other_model, "size mismatch"),
}


@pytest.mark.parametrize(("harm", "message"), HARM.values(), ids=HARM)
def test_load_refuses_and_names_the_file(net, path, harm, message):
    checkpoint.save(net, path, {})
    harm(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(str(path))


def test_nothing_is_ever_unpickled():
    """Pickle runs code on load; weights are safetensors, tables Parquet, and progress is read as tensors only."""
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        loads = [
            node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        ]
        assert all("weights_only=True" in map(ast.unparse, node.keywords) for node in loads), path
        for node in ast.walk(tree):
            text = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom | ast.Attribute) else ""
            words = set(text.replace(".", " ").replace(",", " ").split())
            assert not words & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "read_pickle"}, path
            assert text != "np.load", path
