"""What bad input is fed to: a folder with a dataset, a split and an older result, and the stages over it."""

import importlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import CLASSES, EXECUTION, NETS, NORMALIZE, ROOT, SHAPE
from PIL import Image

from unlearn.config import plugins
from unlearn.config.study import Study
from unlearn.io import tables
from unlearn.io.schema.radii import RADII
from unlearn.run import Run
from unlearn.runtime import runner

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
DEFAULT = (ROOT / "config.yaml").read_text()
OLD = b"the result of an earlier run"
RUN = Run("net", "some", "mine", "last", 0)


@dataclass
class Box:
    """A folder with a dataset, a split and an older result; and the ways to feed it something."""

    root: Path
    dataset: str
    split: str
    patch: pytest.MonkeyPatch

    @property
    def old(self) -> str:
        """A result that a failing stage may neither overwrite nor remove."""
        return str(self.root / "old.parquet")

    def config(self, *edits, more=""):
        """A study of config.yaml with (old, new) texts exchanged and lines added."""
        text = DEFAULT + more
        for old, new in edits:
            assert old in text, old
            text = text.replace(old, new, 1)
        self.file(text)

    def file(self, content):
        """A study of a config file with that content, parsed as Snakemake does."""
        path = self.root / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            config = yaml.full_load(path.read_bytes())
        except yaml.YAMLError:
            config = {}
        Study(config, SCHEMA, [path])

    def plugin(self, kind, text):
        """Put a plug-in `mine` in the place of the project's plug-ins; what it imports is there."""
        path = self.root / kind / "mine.py"
        path.parent.mkdir()
        package = importlib.import_module(f"unlearn.{kind}")
        self.patch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
        self.patch.setattr(plugins, "ROOT", self.root)
        self.patch.setattr(runner, "PACKAGE", self.root)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def declare(self, kind, text):
        self.plugin(kind, text)
        plugins.declaration.__wrapped__(kind, "mine")

    def load_data(self, **settings):
        from unlearn.stages.dataset import dataset

        dataset(self.old, settings)

    def source(self, body):
        """A data source whose `load` has that body."""
        head = "import numpy as np\nfrom unlearn.api.data import Images, Source, dataclass\n"
        settings = "@dataclass(frozen=True)\nclass Settings:\n    pass\n"
        self.plugin("data", f"{head}{settings}def load(settings):\n    {body}\n")
        self.load_data(name="mine")

    def parquet(self, **bad):
        hub(self.root / "train.parquet")
        hub(self.root / "test.parquet", **bad)
        self.load_data(name="parquet", train=str(self.root / "train.parquet"), test=str(self.root / "test.parquet"))

    def harmed_parquet(self, harm):
        for name in ("train.parquet", "test.parquet"):
            hub(self.root / name)
        harm(self.root / "test.parquet")
        self.load_data(name="parquet", train=str(self.root / "train.parquet"), test=str(self.root / "test.parquet"))

    def folder(self, harm, **settings):
        for split in ("train", "val"):
            for name in ("ant", "bee"):
                put(self.root / split / name / "0.png", picture())
        harm(self.root)
        self.load_data(name="imagefolder", root=str(self.root), **settings)

    def forget(self, **settings):
        from unlearn.stages.split import split

        split(self.dataset, self.old, "some", settings)

    def forget_listed(self, content):
        (self.root / "ids.txt").write_bytes(content)
        self.forget(kind="ids", file=str(self.root / "ids.txt"))

    def pretrain(self, model, normalize=(0.5,), **more):
        from unlearn.stages.pretrain import pretrain
        from unlearn.training.artifacts import TrainingSettings

        spec = {"model": model, "args": {}, "stem": "native", "normalize": {**NORMALIZE, "std": list(normalize)}}
        settings = TrainingSettings(model={**spec, **more}, method={"epochs": 1}, **EXECUTION)
        outputs = dict.fromkeys(("model", "history", "cost", "snapshots"), self.old)
        pretrain(RUN, self.dataset, **outputs, settings=settings, follow=0, device="cpu")

    def original(self):
        from unlearn.models import checkpoint
        from unlearn.models.classifier import Spec, create

        path = self.root / "original.safetensors"
        checkpoint.save(create(Spec(classes=CLASSES, shape=SHAPE, **NETS["batchnorm"]), 0), path, {})
        return path

    def method(self, body, given=(), sees='("retain",)'):
        """Run a method whose `unlearn` has that body."""
        from unlearn.stages.unlearn import unlearn
        from unlearn.training.artifacts import TrainingSettings

        settings = "@dataclass(frozen=True)\nclass Settings:\n    rate: Positive = 1.0\n"
        head = f"import torch\nfrom unlearn.config.settings import Positive, dataclass\nDATA_ROLES = {sees}\n{settings}"
        self.plugin("methods", f"{head}def unlearn(model, context, settings):\n    {body}\n")
        original = str(self.original())
        outputs = dict.fromkeys(("model", "history", "cost"), self.old)
        given = TrainingSettings(method=dict(given), **EXECUTION)
        unlearn(RUN, self.dataset, self.split, **outputs, settings=given, device="cpu", original=original)

    def attack(self, body):
        """Run an attack whose `build` has that body."""
        from unlearn.stages.attack import AttackSettings, attack

        settings = "@dataclass(frozen=True)\nclass Settings:\n    pass\n"
        head = f"from unlearn.config.settings import dataclass\nTHREAT_NORM = 'linf'\nCATEGORY = 'single'\n{settings}"
        self.plugin("attacks", f"{head}def build(model, eps, settings):\n    {body}\n")
        radii = str(self.root / "radii.parquet")
        tables.write(RADII, radii, {"threat_norm": ["linf"], "eps": [0.1], "headline": [True]}, {})
        settings = AttackSettings({}, {"test": 4, "retain": 4, "forget": 4})
        original = str(self.original())
        attack(RUN, "mine", original, self.dataset, self.split, radii, self.old, settings, "cpu")

    def figure(self, data, draw="None"):
        """Draw a figure that gets the radii alone."""
        from unlearn.stages.figure import figure

        head = "import pandas as pd\nNEEDS = ()\nMEASURED = ()\n"
        functions = f"def data(tables, settings):\n    return {data}\ndef draw(frame, settings):\n    return {draw}\n"
        self.plugin("figures", head + functions)
        radii = str(self.root / "radii.parquet")
        tables.write(RADII, radii, {"threat_norm": ["linf"], "eps": [0.1], "headline": [True]}, {})
        figure("mine", self.old, self.old, self.old, {"threat_norms": {}}, radii=radii)

    def metric(self, body):
        from unlearn.stages.measure import _compute

        head = "from unlearn.api.metrics import Metric, Row\nMETRICS = {'m': Metric('M', 'max')}\n"
        self.plugin("metrics", f"{head}def compute(run):\n    {body}\n")
        _compute("mine", plugins.load("metrics", "mine").compute, None)

    def weights(self, harm):
        from unlearn.stages.predict import predict

        path = self.original()
        harm(path)
        predict(RUN, str(path), self.dataset, self.split, self.old, "cpu")

    def tables_of(self, harm, stage="probe"):
        """Probe a model after the dataset or the split was harmed."""
        from unlearn.evaluation.activations import ProbeSettings
        from unlearn.stages.probe import probe

        path = self.original()
        harm(self)
        settings = ProbeSettings("output", "channel", False, ["test"])
        probe(RUN, str(path), self.dataset, self.split, self.old, settings, "cpu")

    def pretrain_on(self, harm):
        harm(Path(self.dataset))
        self.pretrain("resnet18")


def picture(shape=(4, 4, 3), kind="uint8", seed=0):
    return np.random.default_rng(seed).integers(256, size=shape).astype(kind)


def encoded(array, form="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(array))


def hub(path, images=None, labels=(0, 1, 0, 1), names=("ant", "bee"), kind=None):
    """A Parquet file of the Hugging Face hub's layout."""
    cells = [{"bytes": image, "path": ""} for image in images or [encoded(picture())] * 4]
    kind = kind or pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"label": {"names": names}}
    table = pa.table({"img": pa.array(cells, kind), "label": pa.array(labels)})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)


def rewrite(path, **columns):
    """Exchange columns of a Parquet file, its metadata kept."""
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(table, path)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def header(path, **changes):
    """Exchange entries of the header of a safetensors file."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, "pt") as file:
        found = file.metadata()
    save_file(load_file(path), path, {**found, **changes})


def respecified(path, **changes):
    from unlearn.models import checkpoint

    header(path, spec=json.dumps(checkpoint.metadata(path)["spec"] | changes))
