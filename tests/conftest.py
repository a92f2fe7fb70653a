"""Tiny networks, tiny data and tiny studies. Nothing here imports torch before a test asks for it."""

import copy
import os
import subprocess
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # workers of pytest-xdist share the cores

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CLASSES, SHAPE = 4, (1, 8, 8)
# What a stage's settings hold beside those of a method: the model, and how it is run.
NORMALIZE = {"mean": [0.5], "std": [0.5]}
NETS = {
    "batchnorm": {
        "model": "resnet18",
        "args": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]},
        "stem": "cifar",
        "normalize": NORMALIZE,
    },
    "layernorm": {
        "model": "vit_tiny_patch16_224",
        "args": {"img_size": 8, "patch_size": 2, "embed_dim": 16, "depth": 3, "num_heads": 2},
        "stem": "native",
        "normalize": NORMALIZE,
    },
}
EXECUTION = {"augment": {"crop": 0, "flip": False}, "precision": "float32"}


def spec_of(net):
    """The spec of a network of NETS."""
    from unlearn.models.classifier import Spec

    return Spec(classes=CLASSES, shape=SHAPE, **NETS[net])


def image_set(count=24, seed=0, first=100):
    """Images of random bytes, classes in turn, ids from ``first`` on."""
    import torch

    from unlearn.models.images import ImageSet

    pixels = torch.randint(256, (count, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return ImageSet(torch.arange(first, first + count), pixels, torch.arange(count) % CLASSES)


def method_context(spec, scope="all", roles=("retain", "forget"), seed=0, **more):
    """A context on the CPU of 20 retain and 12 forget images; equal calls give equal contexts."""
    import torch

    from unlearn.training.context import MethodContext

    sets = {"retain": image_set(20, 1, 0), "forget": image_set(12, 2, 20)}
    return MethodContext(seed, spec, {role: sets[role] for role in roles}, torch.device("cpu"), scope, **more)


def pytest_collection_modifyitems(items):
    """Files are handed out in this order: those with long tests first, that on SLURM before all."""
    items.sort(key=lambda item: (item.get_closest_marker("slurm") is None, item.get_closest_marker("slow") is None))


@pytest.fixture(params=list(NETS))
def spec(request):
    """The spec of a network with batch norms, then of one with layer norms."""
    return spec_of(request.param)


@pytest.fixture
def architecture(spec):
    """The spec as a study's settings have it."""
    return {key: value for key, value in spec.to_json().items() if key not in ("classes", "shape")}


@pytest.fixture
def net(spec):
    """A fresh classifier of the spec."""
    from unlearn.models.classifier import create

    return create(spec, seed=0)


@pytest.fixture
def make_images():
    return image_set


@pytest.fixture
def make_context():
    return method_context


@pytest.fixture
def dataset(tmp_path):
    """Path of a dataset table: 40 training and 16 test images, ids 0…55, four named classes."""
    from unlearn.io import tables
    from unlearn.io.schema.dataset import DATASET

    rng, count = np.random.default_rng(0), 56
    columns = {
        "id": np.arange(count),
        "split": ["train"] * 40 + ["test"] * 16,
        "label": np.arange(count) % CLASSES,
        "origin": [f"{i}.png" for i in range(count)],
        "digest": np.arange(count),
        "image": [rng.integers(256, size=SHAPE, dtype=np.uint8).tobytes() for _ in range(count)],
    }
    path = tmp_path / "dataset.parquet"
    tables.write(DATASET, path, columns, {"classes": ["ant", "bee", "cat", "dog"], "shape": list(SHAPE)})
    return str(path)


@pytest.fixture
def split(dataset, tmp_path):
    """Path of a split of ``dataset``: the first ten training images are forgotten."""
    from unlearn.io import tables
    from unlearn.io.schema.split import SPLIT

    path = tmp_path / "split.parquet"
    role = ["forget"] * 10 + ["retain"] * 30 + ["test"] * 16
    tables.write(SPLIT, path, {"id": np.arange(56), "role": role}, {})
    return str(path)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder of this test run that all its processes share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def default_config():
    """The default config with all keys."""
    from unlearn.config.schema import Config
    from unlearn.config.validation import convert

    return convert(yaml.safe_load((ROOT / "config.yaml").read_text()), Config, "").model_dump(mode="json")


@pytest.fixture
def config(default_config):
    """The default config, to be edited."""
    return copy.deepcopy(default_config)


@pytest.fixture
def python():
    """``python(code)`` runs code in a fresh interpreter and returns what it printed."""

    def run(code):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
