"""On a CUDA device: the same numbers as on a CPU, the same bits twice, nothing outside the scope moved."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from unlearn.config import plugins
from unlearn.evaluation import attack_search
from unlearn.io import tables
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.io.schema.split import SPLIT
from unlearn.models import checkpoint, images, scopes
from unlearn.models.classifier import create
from unlearn.models.cost_meter import Meter
from unlearn.models.device import prepare
from unlearn.runtime import fork_server
from unlearn.stages.predict import examine
from unlearn.training.context import MethodContext

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(autouse=True)
def _prepared():
    prepare("cuda")


def made(net, context, method, **settings):
    """The state after a method, on the CPU."""
    net = create(net.spec, 0).to("cuda")
    plugin = plugins.load("methods", method)
    fields = plugin.Settings.model_fields
    quick = {"epochs": 2, "batch_size": 8, "noise_images": 4, "noise_steps": 2, "noise_repeats": 1, **settings}
    plugin.unlearn(net, context, plugin.Settings(**{key: value for key, value in quick.items() if key in fields}))
    return {name: tensor.cpu() for name, tensor in net.state_dict().items()}


@pytest.fixture
def cuda_context(make_images):
    """``cuda_context(spec, method, scope)``: a context on the GPU whose forget set is the whole class 3."""

    def make(spec, method, scope="all", **more):
        every = make_images(48)
        gone = every.labels == 3
        sets = {"retain": every.select(~gone), "forget": every.select(gone), "train": every}
        data = {role: sets[role].to("cuda") for role in plugins.load("methods", method).DATA_ROLES}
        return MethodContext(0, spec, data, torch.device("cuda"), scope, **more)

    return make


@pytest.mark.parametrize("method", plugins.names("methods"))
def test_method_twice_gives_the_same_bits_and_keeps_to_its_scope(net, cuda_context, method):
    once, again = (made(net, cuda_context(net.spec, method, "last"), method) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)
    before = create(net.spec, 0)
    scopes.freeze(before, "last")
    trainable = {name for name, p in before.named_parameters() if p.requires_grad}
    trainable |= {
        f"{m}.{b}"
        for m, module in before.named_modules()
        for b, _ in module.named_buffers(recurse=False)
        if m in before.trainable
    }
    assert all(torch.equal(tensor, once[name]) for name, tensor in before.state_dict().items() if name not in trainable)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_agrees_with_the_cpu(net, cuda_context, make_images, precision):
    context = cuda_context(net.spec, "cf", precision=precision, augment={"crop": 1, "flip": True})
    on_gpu = made(net, context, "cf", lr=0.001)
    other = MethodContext(
        0,
        net.spec,
        {r: s.to("cpu") for r, s in context.data.items()},
        torch.device("cpu"),
        precision=precision,
        augment=context.augment,
    )
    on_cpu = create(net.spec, 0)
    plugin = plugins.load("methods", "cf")
    plugin.unlearn(on_cpu, other, plugin.Settings(epochs=2, batch_size=8, lr=0.001))
    rows = zip(context.history, other.history, strict=True)
    assert all(abs(a["loss"] - b["loss"]) < (1e-3 if precision == "float32" else 0.05) for a, b in rows)
    if precision == "float32":
        for name, tensor in on_cpu.state_dict().items():
            assert torch.allclose(tensor.float(), on_gpu[name].float(), atol=2e-3), name


def test_evaluation_agrees_with_the_cpu_to_float32(net, make_images):
    found = make_images(64)
    on_cpu, margins = examine(net, found, "cpu")
    on_gpu, others = examine(net.to("cuda"), found, "cuda")
    assert np.abs(on_cpu - on_gpu).max() < 1e-4 * np.abs(on_cpu).max()  # TF32 convolutions differ by 1e-3
    assert np.allclose(margins, others, rtol=1e-2, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", plugins.names("attacks"))
def test_attack_finds_on_the_gpu_what_it_finds_on_the_cpu(net, make_images, name):
    plugin = plugins.load("attacks", name)
    steps = {"steps", "target_steps", "queries", "draws"} & set(plugin.Settings.model_fields)
    own = plugin.Settings(**dict.fromkeys(steps, 5))
    grid = [0.05, 0.3] if plugin.THREAT_NORM == "linf" else [0.5, 3.0]
    found = [
        attack_search.search(
            net.to(device),
            make_images(48).to(device),
            grid,
            lambda m, e: plugin.build(m, e, own),
            0,
            plugin.THREAT_NORM,
        )
        for device in ("cpu", "cuda")
    ]
    a, b = (outcome.eps.cpu().nan_to_num(9.0) for outcome in found)
    assert (a != b).sum() <= 3  # of 48 images, where rounding decides
    assert found[1].checks.norm <= 1 + attack_search.TOLERANCE


def test_memory_is_the_peak_of_the_allocator(net):
    device = torch.device("cuda")
    with Meter(net.to(device), device) as meter:
        model = meter.peak_memory
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.zeros(64 << 20, dtype=torch.uint8, device=device)
    assert meter.peak_memory == model + torch.cuda.max_memory_allocated() - before == model + (64 << 20)
    assert meter.seconds > 0


def test_warm_process_forks_into_cuda(tmp_path, dataset, net):
    """The process that jobs are forked from must not have touched the GPU."""
    checkpoint.save(net, tmp_path / "model.safetensors", {})
    split = tmp_path / "split.parquet"
    tables.write(SPLIT, split, {"id": np.arange(56), "role": ["forget"] * 10 + ["retain"] * 30 + ["test"] * 16}, {})
    inputs = {"model": str(tmp_path / "model.safetensors"), "dataset": dataset, "split": str(split)}
    out = str(tmp_path / "predictions.parquet")
    request = {
        "stage": "unlearn.stages.predict",
        "arguments": {"run": {"arch": "net", "forget": "some", "method": "cf", "scope": "all", "seed": 0}},
        "files": {**inputs, "out": out},
        "inputs": list(inputs.values()),
        "outputs": [out],
        "log": str(tmp_path / "job.log"),
        "code": "",
        "device": "cuda",
        "threads": 1,
    }
    code = f"from unlearn.runtime import fork_server; import sys; sys.exit(fork_server.call({request!r}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), fork_server.OWNER: str(os.getpid())}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + (tmp_path / "job.log").read_text()
    assert len(tables.read(PREDICTIONS, tmp_path / "predictions.parquet")) == 56
    assert images.describe(dataset)[0] == ["ant", "bee", "cat", "dog"]
