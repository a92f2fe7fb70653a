"""Whatever is wrong with what a user gives: one line that names file and key, and nothing written.

Each case is an input that is not to be used; its words must stand in the message. Generated cases spoil every
key of the default config.
"""

import copy
import importlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from boxes import DEFAULT, OLD, Box, cut, encoded, header, picture, put, respecified, rewrite
from conftest import NETS

from unlearn.config import contracts, plugins
from unlearn.config.schema import Config
from unlearn.config.settings import ConfigError
from unlearn.config.study import Study
from unlearn.config.validation import convert
from unlearn.io import tables
from unlearn.io.schema.split import SPLIT
from unlearn.runtime import runner

# --- the cases: what is done to the box, and the words of the message ------------------------------

SEEDS = next(number for number, line in enumerate(DEFAULT.splitlines(), 1) if line.startswith("seeds:"))
CONFIG = {
    # YAML
    "broken": (lambda b: b.config(("seeds: [0]", "seeds: [0")), f"config.yaml, line {SEEDS + 1}"),
    "a tab": (lambda b: b.config(("seeds: [0]", "\tseeds: [0]")), f"config.yaml, line {SEEDS}"),
    "no colon": (lambda b: b.config(("seeds: [0]", "seeds [0]")), "config.yaml, line 2"),
    "an open quote": (lambda b: b.config(("study: digits", 'study: "digits')), "config.yaml, line"),
    "an unknown anchor": (lambda b: b.config(("seeds: [0]", "seeds: *a")), f"config.yaml, line {SEEDS}", "'a'"),
    "an anchor of itself": (lambda b: b.config(("args: {layers", "args: &a {x: *a, layers")), "config.yaml, line"),
    "a python object": (lambda b: b.config(("seeds: [0]", "seeds: !!python/tuple [0]")), f"config.yaml, line {SEEDS}"),
    "a list": (lambda b: b.file("- study\n"), "config.yaml", "holds a list"),
    "empty": (lambda b: b.file(""), "config.yaml", "holds nothing"),
    "comments only": (lambda b: b.file("# later\n"), "config.yaml", "holds nothing"),
    "bytes": (lambda b: b.file(b"\xff\xfe\x00\x80"), "config.yaml", "not a text file"),
    "a control character": (lambda b: b.file("study: \x07"), "config.yaml", "not a text file"),
    "no such file": (lambda b: Study({}, [b.root / "absent.yaml"]), "absent.yaml", "No such file"),
    "a folder": (lambda b: Study({}, [b.root]), "Is a directory"),
    "a key twice": (lambda b: b.config(more="seeds: [1]\n"), f"'seeds' stands twice, first in line {SEEDS}"),
    "an inner key twice": (lambda b: b.config(("  follow: 3", "  follow: 3\n  follow: 4")), "'follow' stands twice"),
    "an arch twice": (lambda b: b.config(("    vit:", "    resnet:")), "'resnet' stands twice"),
    "octal": (lambda b: b.config(("seeds: [0]", "seeds: [010]")), f"line {SEEDS}", "010 is read as 8"),
    "hexadecimal": (lambda b: b.config(("seeds: [0]", "seeds: [0x10]")), f"line {SEEDS}", "0x10 is read as 16"),
    "base 60": (lambda b: b.config(("seeds: [0]", "seeds: [1:30]")), f"line {SEEDS}", "1:30 is read as 90"),
    "digit groups": (lambda b: b.config(("epochs: 30", "epochs: 3_0")), "3_0 is read as 30"),
    "base 60 with a point": (lambda b: b.config(("lr: 0.05", "lr: 1:30.5")), "1:30.5 is read as 90.5"),
    "eight with a zero": (lambda b: b.config(("seeds: [0]", "seeds: [08]")), "seeds.0: '08'"),
    "1e-3": (lambda b: b.config(("lr: 0.05", "lr: 1e-3")), "archs.resnet.train.lr", "write 0.001"),
    "1e3": (lambda b: b.config(("epochs: 30", "epochs: 1e3")), "archs.vit.train.epochs: '1e3'"),
    "a percentage": (lambda b: b.config(("lr: 0.05", "lr: 5%")), "archs.resnet.train.lr: '5%'"),
    "infinite": (lambda b: b.config(("lr: 0.05", "lr: .inf")), "archs.resnet.train.lr: inf"),
    "not a number": (lambda b: b.config(("fraction: 0.1", "fraction: .nan")), "random10.fraction: nan"),
    "a number that overflows": (lambda b: b.config(("lr: 0.05", "lr: 1.0e+400")), "archs.resnet.train.lr: inf"),
    "nan in arguments": (lambda b: b.config(("depth: 3", "drop_rate: .nan")), "archs.vit.args.drop_rate: nan"),
    "yes for a name": (lambda b: b.config(("archs: [resnet, vit]", "archs: [resnet, yes]")), "archs.1: True"),
    "on for a key": (lambda b: b.config(("    resnet:", "    on:")), "settings.archs.True", "in quotes"),
    "a number for a key": (lambda b: b.config(("    vit:", "    3:")), "settings.archs.3", "in quotes"),
    "no for a class": (lambda b: b.config(('["3"]', "[no]")), "settings.forgets.class3"),
    "a date": (lambda b: b.config(("label: ViT-3", "label: 2020-01-01")), "archs.vit.label", "read as a date"),
    "several lines": (lambda b: b.config(("study: digits", "study: |\n  digits")), "study", "several lines"),
    "a quoted switch": (lambda b: b.config(("seeds: [0]", "seeds: [0]\ntune: 'no'")), "tune: 'no'"),
    # values that no schema of types would refuse
    "a seed too large": (lambda b: b.config(("seeds: [0]", "seeds: [4294967296]")), "seeds.0: 4294967296"),
    "a data seed too large": (lambda b: b.config(("seed: 0}   # a", "seed: 4294967296}   # a")), "source.seed"),
    "no label": (lambda b: b.config(("label: ViT-3", "label: ''")), "archs.vit.label"),
    "no model": (lambda b: b.config(("model: resnet18", "model: ''")), "archs.resnet.model"),
    "groups the wrong way": (lambda b: b.config(("  - first", '  - "groups: 5-3"')), "scopes.0", "lower group first"),
    "a group with a zero": (lambda b: b.config(("  - first", '  - "groups: 03"')), "scopes.0"),
    "no list of ids": (
        lambda b: b.config(
            ("forgets: [random10]", "forgets: [l]"),
            ("    class3:", "    l: {kind: ids, file: absent.txt}\n    class3:"),
        ),
        "settings.forgets.l.file: absent.txt",
    ),
    "an unknown key": (lambda b: b.config(more="colour: red\n"), "config.yaml: colour: unknown key; known are study, "),
    "no study": (lambda b: b.config(("study: digits ", "# ")), "config.yaml: study: missing"),
    "no settings": (lambda b: b.file(DEFAULT[: DEFAULT.index("settings:")]), "config.yaml: settings: missing"),
    "settings of nothing": (lambda b: b.file("study: digits\nsettings:\n"), "config.yaml"),
    "a setting that the method lacks": (
        lambda b: b.config(("  follow: 3", "  methods: {cf: {density: 0.5}}\n  follow: 3")),
        "settings.methods.cf.density",
    ),
    "a setting that the attack lacks": (
        lambda b: b.config(("noise: {draws: 10}", "noise: {steps: 10}")),
        "settings.attacks.noise.steps",
    ),
    "a setting that the source lacks": (lambda b: b.config(("test_fraction: 0.25", "split: 0.25")), "source.split"),
    "one of two for a method": (
        lambda b: b.config(("forgets: [random10]", "forgets: [random10]"), ("  - scrub", "  - unsir")),
        "settings.forgets.random10",
        "'unsir'",
    ),
}

METHOD = """from unlearn.config.settings import Training
DATA_ROLES = ("retain",)
class Settings(Training):
    pass
def unlearn(model, context, settings):
    pass
"""
ATTACK = METHOD.replace('DATA_ROLES = ("retain",)', 'THREAT_NORM = "linf"\nCATEGORY = "single"').replace(
    "unlearn(model, context", "build(model, eps"
)
FIGURE = 'NEEDS = ("metrics",)\nMEASURED = ()\ndef data(tables, settings): pass\ndef draw(frame, settings): pass\n'
METRIC = "METRICS = {}\ndef compute(run): pass\n"
SOURCE = METHOD.replace('DATA_ROLES = ("retain",)\n', "").replace("unlearn(model, context, settings)", "load(settings)")
SOUND = {"methods": METHOD, "attacks": ATTACK, "figures": FIGURE, "metrics": METRIC, "data": SOURCE}


def spoilt(kind, old, new):
    assert old in SOUND[kind], (kind, old)
    return lambda box: box.declare(kind, SOUND[kind].replace(old, new))


PLUGINS = {
    "syntax error": (spoilt("methods", "pass\ndef", "pass\ndef def"), "methods/mine.py, line 5"),
    "bad indentation": (spoilt("methods", "    pass\ndef", "  pass\n    pass\ndef"), "methods/mine.py, line"),
    "no text": (lambda b: b.declare("methods", b"\xff\xfe"), "methods/mine.py"),
    "a null": (lambda b: b.declare("methods", METHOD + "\0"), "methods/mine.py"),
    "nothing in it": (lambda b: b.declare("methods", ""), "methods/mine.py", "unlearn(model, context, settings)"),
    "no unlearn": (
        spoilt("methods", "def unlearn", "def forget"),
        "methods/mine.py",
        "unlearn(model, context, settings)",
    ),
    "unlearn is a value": (
        spoilt("methods", "def unlearn(model, context, settings):", "unlearn = 3\nif 1:"),
        "lacks function unlearn",
    ),
    "unlearn awaits": (spoilt("methods", "def unlearn", "async def unlearn"), "lacks function unlearn"),
    "unlearn takes less": (
        spoilt("methods", "context, settings", "context"),
        "methods/mine.py, line 5: unlearn(model, context) must",
    ),
    "unlearn takes more": (
        spoilt("methods", "settings):", "settings, more):"),
        "line 5: unlearn(model, context, settings, more)",
    ),
    "unlearn takes others": (
        spoilt("methods", "model, context", "net, context"),
        "line 5: unlearn(net, context, settings)",
    ),
    "unlearn takes any": (spoilt("methods", "model, context, settings", "*given"), "line 5: unlearn(*given)"),
    "unlearn needs a keyword": (
        spoilt("methods", "settings):", "settings, *, k):"),
        "unlearn(model, context, settings, *, k)",
    ),
    "no DATA_ROLES": (spoilt("methods", "DATA_ROLES", "LOOKS"), "methods/mine.py: lacks DATA_ROLES"),
    "DATA_ROLES a text": (spoilt("methods", '("retain",)', '("retain")'), "methods/mine.py, DATA_ROLES", "not a list"),
    "DATA_ROLES the test images": (
        spoilt("methods", '("retain",)', '("test",)'),
        "methods/mine.py, DATA_ROLES.0: 'test'",
    ),
    "DATA_ROLES computed": (
        spoilt("methods", '("retain",)', "tuple(ROLES)"),
        "methods/mine.py, DATA_ROLES",
        "written out",
    ),
    "DATA_ROLES unhashable": (
        spoilt("methods", '("retain",)', "{[]: 1}"),
        "methods/mine.py, DATA_ROLES",
        "written out",
    ),
    "FORGET_KINDS unknown": (
        spoilt("methods", "DATA_ROLES", 'FORGET_KINDS = ("all",)\nDATA_ROLES'),
        "FORGET_KINDS.0: 'all'",
    ),
    "TUNING_GRID a list": (
        spoilt("methods", "DATA_ROLES", "TUNING_GRID = [1]\nDATA_ROLES"),
        "methods/mine.py, TUNING_GRID",
        "not a mapping",
    ),
    "no Settings": (spoilt("methods", "class Settings", "class Options"), "methods/mine.py: lacks class Settings"),
    "Settings a plain class": (
        spoilt("methods", "class Settings(Training)", "class Settings"),
        "Settings: must derive from Section or Training",
    ),
    "Settings of torch": (
        spoilt("methods", "    pass\ndef", "    x: torch.Tensor = None\ndef"),
        "Settings",
        "'torch' is not defined",
    ),
    "Settings of an unknown name": (
        spoilt("methods", "    pass\ndef", "    x: 'Positiv' = 1.0\ndef"),
        "Settings",
        "'Positiv' is not defined",
    ),
    "Settings of a type that is none": (
        spoilt("methods", "    pass\ndef", "    x: object() = 3\ndef"),
        "methods/mine.py, Settings: ",
    ),
    "a default that is no list": (
        spoilt("methods", "    pass\ndef", "    x: list[int] = 3\ndef"),
        "methods/mine.py, Settings.x: 3 is not a list",
    ),
    "a default out of range": (
        spoilt("methods", "    pass\ndef", "    epochs: Count = -1\ndef"),
        "Settings.epochs: -1",
    ),
    "a default of another type": (
        spoilt("methods", "    pass\ndef", "    epochs: Count = '3'\ndef"),
        "Settings.epochs: '3'",
    ),
    "a module that is not there": (
        spoilt("methods", "DATA_ROLES", "from unlearn.trainig import fit\nDATA_ROLES"),
        "line 2: there is no module unlearn.trainig",
    ),
    "no build": (
        spoilt("attacks", "def build", "def make"),
        "attacks/mine.py: lacks function build(model, eps, settings)",
    ),
    "build takes another order": (
        spoilt("attacks", "model, eps", "eps, model"),
        "attacks/mine.py, line 6: build(eps, model",
    ),
    "no THREAT_NORM": (spoilt("attacks", "THREAT_NORM", "LAYERS"), "attacks/mine.py: lacks THREAT_NORM"),
    "THREAT_NORM unknown": (spoilt("attacks", '"linf"', '"l1"'), "attacks/mine.py, THREAT_NORM: 'l1'"),
    "no CATEGORY": (spoilt("attacks", "CATEGORY", "KINDS"), "attacks/mine.py: lacks CATEGORY"),
    "CATEGORY unknown": (spoilt("attacks", '"single"', '"strong"'), "attacks/mine.py, CATEGORY: 'strong'"),
    "AIM unknown": (spoilt("attacks", "CATEGORY", "AIM = 'miss'\nCATEGORY"), "attacks/mine.py, AIM: 'miss'"),
    "no load": (spoilt("data", "def load", "def read"), "data/mine.py: lacks function load(settings)"),
    "load takes nothing": (spoilt("data", "load(settings)", "load()"), "data/mine.py, line 4: load() must"),
    "no METRICS": (spoilt("metrics", "METRICS", "NAMES"), "metrics/mine.py: lacks METRICS"),
    "no compute": (spoilt("metrics", "def compute", "def measure"), "metrics/mine.py: lacks function compute(run) or"),
    "compute takes more": (spoilt("metrics", "(run)", "(run, other)"), "metrics/mine.py, line 2: compute(run, other)"),
    "REQUIRES a text": (spoilt("metrics", "METRICS", "REQUIRES = 'accuracy'\nMETRICS"), "metrics/mine.py, REQUIRES"),
    "no draw": (spoilt("figures", "def draw", "def paint"), "figures/mine.py: lacks function draw(frame, settings)"),
    "draw takes less": (spoilt("figures", "frame, settings", "frame"), "figures/mine.py, line 4: draw(frame)"),
    "no NEEDS": (spoilt("figures", "NEEDS", "WANTS"), "figures/mine.py: lacks NEEDS"),
    "NEEDS a text": (spoilt("figures", '("metrics",)', '"metrics"'), "figures/mine.py, NEEDS: 'metrics' is not a list"),
    "no MEASURED": (spoilt("figures", "MEASURED", "PLOTTED"), "figures/mine.py: lacks MEASURED"),
    # what only running them shows
    "an import that fails": (
        lambda b: b.method("import nothing_of_that_name"),
        "ModuleNotFoundError",
        "methods/mine.py, line",
    ),
    "an error on import": (
        lambda b: (b.plugin("methods", "1 / 0"), plugins.load("methods", "mine")),
        "methods/mine.py: ZeroDivisionError",
    ),
    "undeclared images": (lambda b: b.method('context.images("forget")'), "methods/mine.py", "'forget'", "DATA_ROLES"),
    "undeclared test images": (lambda b: b.method('context.data["test"]'), "KeyError", "methods/mine.py, line 7"),
    "a new model": (lambda b: b.method("return context.fresh_model()"), "methods/mine.py", "return nothing"),
    "another structure": (
        lambda b: b.method("model.net.fc = torch.nn.Linear(16, 5)"),
        "methods/mine.py",
        "another structure",
    ),
    "weights out of scope": (
        lambda b: b.method("with torch.no_grad(): model.net.conv1.weight.add_(1)"),
        "methods/mine.py",
        "net.conv1.weight",
        "scope last",
    ),
    "buffers out of scope": (
        lambda b: b.method("model.net.bn1.running_mean.add_(1)"),
        "methods/mine.py",
        "net.bn1.running_mean",
    ),
    "a setting out of range": (
        lambda b: b.method("pass", {"rate": 0}),
        "methods.mine.rate: Input should be greater than 0",
    ),
    "members that are no functions": (lambda b: b.attack("return {'a': 1}"), "attacks/mine.py", "members"),
    "no members": (lambda b: b.attack("return {}"), "attacks/mine.py", "members"),
    "an attack alone": (lambda b: b.attack("return lambda x, y: x"), "attacks/mine.py", "members"),
    "another shape": (lambda b: b.attack("return {'a': lambda x, y: x[:1, :, :2]}"), "attacks/mine.py", "'a'"),
    "no images": (lambda b: b.attack("return {'a': lambda x, y: None}"), "attacks/mine.py", "'a'"),
    "no frame": (lambda b: b.figure("None"), "figure 'mine'"),
    "nothing to plot": (lambda b: b.figure("pd.DataFrame()"), "figure 'mine'"),
    "no figure": (lambda b: b.figure("pd.DataFrame({'x': [1]})"), "figure 'mine'", "NoneType"),
    "an undeclared metric": (lambda b: b.metric("yield Row('other', 1.0, 1)"), "metric 'mine'", "other"),
    "no rows": (lambda b: b.metric("yield ('m', 1.0, 1)"), "metric 'mine'", "tuple"),
}

PNG = encoded(picture())
DATA = {
    "digits: too few for a test": (lambda b: b.load_data(name="digits", test_fraction=0.001), "test_fraction 0.001"),
    "digits: too few to train": (lambda b: b.load_data(name="digits", test_fraction=0.999), "test_fraction 0.999"),
    "torchvision: no files": (
        lambda b: b.load_data(name="torchvision", dataset="cifar10", root=str(b.root), download=False),
        "cifar10",
    ),
    "parquet: no file": (lambda b: b.harmed_parquet(Path.unlink), "test.parquet: no such file"),
    "parquet: truncated": (lambda b: b.harmed_parquet(cut), "test.parquet", "not a readable Parquet file"),
    "parquet: damaged inside": (
        lambda b: b.harmed_parquet(lambda p: p.write_bytes(p.read_bytes()[:4] + b"\xff" * 60 + p.read_bytes()[64:])),
        "test.parquet: damaged",
    ),
    "parquet: a text": (
        lambda b: b.harmed_parquet(lambda p: p.write_text("img,label")),
        "test.parquet",
        "not a readable Parquet file",
    ),
    "parquet: empty file": (
        lambda b: b.harmed_parquet(lambda p: p.write_bytes(b"")),
        "test.parquet",
        "not a readable Parquet file",
    ),
    "parquet: a folder": (lambda b: b.harmed_parquet(lambda p: (p.unlink(), p.mkdir())), "test.parquet"),
    "parquet: no image column": (
        lambda b: b.harmed_parquet(lambda p: pq.write_table(pa.table({"label": [0]}), p)),
        "test.parquet",
        "'img'",
    ),
    "parquet: no bytes": (
        lambda b: b.parquet(kind=pa.struct([("path", pa.string())])),
        "test.parquet, row 0: holds no image",
    ),
    "parquet: a label too large": (lambda b: b.parquet(labels=[0, 1, 2, 0]), "test.parquet", "label"),
    "parquet: a label below 0": (lambda b: b.parquet(labels=[0, 1, -1, 0]), "test.parquet", "label"),
    "parquet: a missing label": (lambda b: b.parquet(labels=[0, 1, None, 0]), "test.parquet", "label"),
    "parquet: float labels": (lambda b: b.parquet(labels=[0.0, 1.0, 0.0, 1.0]), "test.parquet", "'label'"),
    "parquet: no classes": (lambda b: b.parquet(names=None), "test.parquet", "class names differ"),
    "parquet: a number of classes": (lambda b: b.parquet(names=2), "test.parquet", "class names differ"),
    "parquet: other classes": (lambda b: b.parquet(names=("bee", "ant")), "test.parquet", "class names differ"),
    "parquet: no image": (lambda b: b.parquet(images=[b"no image"] * 4), "test.parquet, row 0"),
    "parquet: half an image": (lambda b: b.parquet(images=[PNG, PNG, PNG[:60], PNG]), "test.parquet, row 2"),
    "parquet: other sizes": (lambda b: b.parquet(images=[encoded(picture((5, 5, 3)))] * 4), "(3, 5, 5)", "(3, 4, 4)"),
    "parquet: mixed sizes": (
        lambda b: b.parquet(images=[PNG, PNG, PNG, encoded(picture((5, 5, 3)))]),
        "test.parquet",
        "`size`",
    ),
    "parquet: 16 bits": (
        lambda b: b.parquet(images=[encoded(picture((4, 4), "uint16"))] * 4),
        "test.parquet, row 0",
        "8 bits",
    ),
    "imagefolder: no folder": (lambda b: b.load_data(name="imagefolder", root=str(b.root / "absent")), "absent/train"),
    "imagefolder: a file": (lambda b: b.load_data(name="imagefolder", root=b.dataset), "dataset.parquet/train"),
    "imagefolder: no test": (lambda b: b.folder(lambda r: None, test="absent"), "absent"),
    "imagefolder: no classes": (
        lambda b: ((b.root / "train").mkdir(), b.load_data(name="imagefolder", root=str(b.root))),
        "no class folders",
    ),
    "imagefolder: one class": (
        lambda b: b.folder(
            lambda r: [put(r / s / "0.png", picture()) for s in ("one/ant", "two/ant")], train="one", test="two"
        ),
        "two classes",
        "ant",
    ),
    "imagefolder: images of one class": (lambda b: b.folder(lambda r: (r / "train/bee/0.png").unlink()), "'ant'"),
    "imagefolder: another class": (lambda b: b.folder(lambda r: put(r / "val/cat/0.png", picture())), "val", "cat"),
    "imagefolder: an empty image": (
        lambda b: b.folder(lambda r: (r / "val/ant/0.png").write_bytes(b"")),
        "val/ant/0.png",
    ),
    "imagefolder: mixed sizes": (
        lambda b: b.folder(lambda r: put(r / "train/ant/1.png", picture((5, 4, 3)))),
        "`size`",
    ),
    "imagefolder: 16 bits": (
        lambda b: b.folder(lambda r: put(r / "train/ant/1.png", picture((4, 4), "uint16"))),
        "train/ant/1.png",
        "8 bits",
    ),
    "imagefolder: a list of bytes": (
        lambda b: b.folder(lambda r: (r / "val/val_annotations.txt").write_bytes(b"\xff\xfe")),
        "val_annotations.txt",
    ),
    "imagefolder: an image twice": (
        lambda b: b.folder(lambda r: (r / "val/val_annotations.txt").write_text("0.png\tant\n0.png\tbee\n")),
        "val_annotations.txt, line 2",
        "0.png",
    ),
    "source: no Source": (lambda b: b.source("return None"), "data 'mine'", "NoneType"),
    "source: no images": (lambda b: b.source("return Source(['a', 'b'], [])"), "data 'mine'", "has none"),
    "source: a class twice": (lambda b: b.source("return Source(['a', 'a'], [])"), "data 'mine'", "['a', 'a']"),
    "source: no test": (
        lambda b: b.source(
            "return Source(['a', 'b'], [Images('train', np.zeros((2, 1, 4, 4), np.uint8), np.arange(2))])"
        ),
        "data 'mine'",
        "test",
    ),
    "source: another split": (
        lambda b: b.source(
            "return Source(['a', 'b'], [Images('val', np.zeros((2, 1, 4, 4), np.uint8), np.arange(2))])"
        ),
        "data 'mine'",
        "'val'",
    ),
    "source: float pixels": (
        lambda b: b.source("return Source(['a', 'b'], [Images('train', np.zeros((2, 1, 4, 4)), np.arange(2))])"),
        "data 'mine'",
        "float64",
    ),
    "source: flat pixels": (
        lambda b: b.source("return Source(['a', 'b'], [Images('train', np.zeros((2, 16), np.uint8), np.arange(2))])"),
        "data 'mine'",
        "(2, 16)",
    ),
    "source: float labels": (
        lambda b: b.source(
            "return Source(['a', 'b'], [Images('train', np.zeros((2, 1, 4, 4), np.uint8), np.array([0.2, 1.7]))])"
        ),
        "data 'mine'",
        "float64",
    ),
    "source: fewer labels": (
        lambda b: b.source(
            "return Source(['a', 'b'], [Images('train', np.zeros((2, 1, 4, 4), np.uint8), np.arange(1))])"
        ),
        "data 'mine'",
        "(1,)",
    ),
    "source: a label too large": (
        lambda b: b.source(
            "return Source(['a', 'b'], [Images('train', np.zeros((2, 1, 4, 4), np.uint8), np.arange(2) + 1)])"
        ),
        "data 'mine'",
        "0…1",
    ),
}

FORGETS = {
    "forget nothing": (lambda b: b.forget(kind="random", fraction=0.001, seed=0), "settings.forgets.some", "0 of 40"),
    "forget everything": (
        lambda b: b.forget(kind="random", fraction=0.999, seed=0),
        "settings.forgets.some",
        "40 of 40",
    ),
    "forget all classes": (lambda b: b.forget(kind="class", classes=[0, 1, 2, 3]), "settings.forgets.some", "40 of 40"),
    "forget all classes but one": (
        lambda b: b.forget(kind="class", classes=[0, 1, 2]),
        "settings.forgets.some",
        "one class",
    ),
    "forget a class by another name": (
        lambda b: b.forget(kind="class", classes=["eel"]),
        "settings.forgets.some.classes",
        "'eel'",
    ),
    "forget a class too many": (lambda b: b.forget(kind="class", classes=[4]), "settings.forgets.some.classes", "4"),
    "forget a class below 0": (lambda b: b.forget(kind="class", classes=[-1]), "settings.forgets.some.classes", "-1"),
    "no list": (lambda b: b.forget(kind="ids", file="absent.txt"), "settings.forgets.some.file", "absent.txt"),
    "an empty list": (lambda b: b.forget_listed(b"\n\n"), "settings.forgets.some", "0 of 40"),
    "a list of bytes": (lambda b: b.forget_listed(b"\xff\xfe"), "settings.forgets.some.file", "ids.txt"),
    "an id twice": (lambda b: b.forget_listed(b"3\n4\n3\n"), "settings.forgets.some.file", "ids.txt", "twice"),
    "an id of a test image": (lambda b: b.forget_listed(b"3\n50\n"), "settings.forgets.some.file", "ids.txt", "50"),
    "an id of no image": (lambda b: b.forget_listed(b"3\n1000\n"), "settings.forgets.some.file", "ids.txt", "1000"),
    "an id below 0": (lambda b: b.forget_listed(b"-1\n"), "settings.forgets.some.file", "ids.txt", "-1"),
    "an id that is a name": (lambda b: b.forget_listed(b"3\ncat.png\n"), "ids.txt, line 2", "cat.png"),
    "an id with a point": (lambda b: b.forget_listed(b"3.0\n"), "ids.txt, line 1"),
}

MODELS = {
    "an unknown model": (lambda b: b.built("resnet19"), "settings.archs.net", "resnet19"),
    "an unknown argument": (lambda b: b.built("resnet18", args={"width": 3}), "settings.archs.net", "'width'"),
    "an argument of another type": (
        lambda b: b.built("resnet18", args={"layers": "many"}),
        "settings.archs.net",
        "'many'",
    ),
    "an argument of ours": (
        lambda b: b.built("resnet18", args={"num_classes": 3}),
        "settings.archs.net",
        "num_classes",
    ),
    "other images": (lambda b: b.built("vit_tiny_patch16_224"), "settings.archs.net", "shape (1, 8, 8)"),
    "heads that do not fit": (
        lambda b: b.built("vit_tiny_patch16_224", args={**NETS["layernorm"]["args"], "num_heads": 5}),
        "settings.archs.net",
    ),
    "features, no logits": (
        lambda b: b.built("resnet18", args={**NETS["batchnorm"]["args"], "features_only": True}),
        "settings.archs.net",
        "list",
    ),
    "no such file of code": (lambda b: b.built("absent.py:build"), "settings.archs.net", "absent.py"),
    "a stem for others": (
        lambda b: b.built("vit_tiny_patch16_224", args=NETS["layernorm"]["args"], stem="cifar"),
        "settings.archs.net",
        "stem",
    ),
    "constants for other channels": (
        lambda b: b.built("resnet18", normalize=(0.5, 0.5, 0.5)),
        "settings.archs.net",
        "normalize.std",
    ),
    "a crop of padding": (
        lambda b: b.built("resnet18", args=NETS["batchnorm"]["args"], crop=8),
        "settings.datasets.mine.augment.crop: 8",
    ),
    "pretrain without a dataset": (lambda b: b.pretrain_on(lambda p: p.write_bytes(b"PAR1")), "dataset.parquet"),
    "pretrain on another table": (
        lambda b: b.pretrain_on(lambda p: tables.write(SPLIT, p, {"id": [0], "role": ["test"]}, {})),
        "dataset.parquet",
        "'split'",
    ),
    "pretrain on somebody's table": (
        lambda b: b.pretrain_on(lambda p: pq.write_table(pa.table({"id": [0]}), p)),
        "dataset.parquet",
    ),
}

RESULTS = {
    "no weights": (lambda b: b.weights(Path.unlink), "original.safetensors: no such file"),
    "truncated weights": (lambda b: b.weights(cut), "original.safetensors: not a safetensors file"),
    "empty weights": (
        lambda b: b.weights(lambda p: p.write_bytes(b"")),
        "original.safetensors: not a safetensors file",
    ),
    "a pickle": (
        lambda b: b.weights(lambda p: importlib.import_module("torch").save({}, p)),
        "original.safetensors: not a safetensors file",
    ),
    "an older format": (
        lambda b: b.weights(lambda p: header(p, format="unlearn-0")),
        "original.safetensors: not a weights file",
    ),
    "an unreadable header": (lambda b: b.weights(lambda p: header(p, spec="{")), "original.safetensors: its header"),
    "a spec with another key": (
        lambda b: b.weights(lambda p: respecified(p, colour=1)),
        "original.safetensors",
        "colour",
    ),
    "a spec without a model": (lambda b: b.weights(lambda p: header(p, spec="{}")), "original.safetensors", "shape"),
    "a spec of an unknown model": (
        lambda b: b.weights(lambda p: respecified(p, model="resnet19")),
        "original.safetensors",
        "resnet19",
    ),
    "a spec of other weights": (lambda b: b.weights(lambda p: respecified(p, classes=7)), "original.safetensors", "fc"),
    "no split": (lambda b: b.tables_of(lambda b: Path(b.split).unlink()), "split.parquet: no such file"),
    "a truncated split": (lambda b: b.tables_of(lambda b: cut(Path(b.split))), "split.parquet"),
    "a split with a column more": (
        lambda b: b.tables_of(
            lambda b: pq.write_table(pq.read_table(b.split).append_column("x", pa.nulls(56)), b.split)
        ),
        "split.parquet",
        "columns",
    ),
    "a split of another type": (
        lambda b: b.tables_of(lambda b: rewrite(b.split, id=[str(i) for i in range(56)])),
        "split.parquet",
        "columns",
    ),
    "a split with an id twice": (
        lambda b: b.tables_of(lambda b: rewrite(b.split, id=[0, *range(55)])),
        "split.parquet",
        "ids",
    ),
    "a split without a test": (
        lambda b: b.tables_of(lambda b: rewrite(b.split, role=["retain"] * 56)),
        "split.parquet",
        "'test'",
    ),
    "a truncated dataset": (lambda b: b.tables_of(lambda b: cut(Path(b.dataset))), "dataset.parquet"),
    "an image too short": (
        lambda b: b.tables_of(lambda b: rewrite(b.dataset, image=[b"\0" * 63] + [b"\0" * 64] * 55)),
        "dataset.parquet",
        "64 bytes",
    ),
}

CASES = {**CONFIG, **PLUGINS, **DATA, **FORGETS, **MODELS, **RESULTS}


@pytest.fixture
def box(dataset, split, tmp_path, monkeypatch):
    found = Box(tmp_path, dataset, split, monkeypatch)
    Path(found.old).write_bytes(OLD)
    yield found
    for kind in plugins.KINDS:
        sys.modules.pop(f"unlearn.{kind}.mine", None)


def test_there_are_enough_cases():
    assert len(CASES) == sum(map(len, (CONFIG, PLUGINS, DATA, FORGETS, MODELS, RESULTS))) >= 100


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_stops_in_one_line(box, case):
    stop, *words = case
    with pytest.raises(Exception) as caught:  # noqa: PT011 (its kind is looked at below)
        stop(box)
    error, line = caught.value, runner.explained(caught.value)
    ours = type(error).__module__.split(".")[0] == "unlearn"
    assert ours or "mine.py, line" in line, f"{type(error).__name__} is no error of this project: {line}"
    assert "\n" not in line
    assert len(line) < 600
    for word in words:
        assert word in line
    assert Path(box.old).read_bytes() == OLD
    assert not list(box.root.rglob("*.part"))


@pytest.mark.parametrize(
    ("grid", "key"),
    [
        ({"sgd": {"lrr": (0.1,)}, "adaptive": {"lr": (0.1,)}}, "TUNING_GRID.lrr: unknown key"),
        ({"sgd": {"lr": (-0.1,)}, "adaptive": {"lr": (0.1,)}}, "TUNING_GRID.lr: -0.1 must be 0 or greater"),
        ({"sgd": {"lr": 0.1}, "adaptive": {"lr": (0.1,)}}, "TUNING_GRID.lr: 0.1 is not a list"),
        ({"sgd": [0.1], "adaptive": {"lr": (0.1,)}}, "TUNING_GRID: [0.1] is not a mapping"),
        ({"sgd": {"epochs": (1, 2)}, "adaptive": {"lr": (0.1,)}}, "TUNING_GRID.epochs: only settings that take any"),
        ({"sgd": {"optimizer": ("adam",)}, "adaptive": {"lr": (0.1,)}}, "TUNING_GRID.optimizer: only settings that"),
        ({"sgd": {"lr": ("0.1",)}, "adaptive": {"lr": (0.1,)}}, "TUNING_GRID.lr: '0.1' is not a number"),
        ({}, "declares no TUNING_GRID"),
    ],
)
def test_a_grid_that_its_method_cannot_run(monkeypatch, grid, key):
    """Tuning comes after pretraining and retraining."""
    known = contracts.declaration
    declared = replace(known("methods", "cf"), constants={"DATA_ROLES": ("retain",), "TUNING_GRID": grid})
    monkeypatch.setattr(contracts, "declaration", lambda kind, name: declared if name == "cf" else known(kind, name))
    with pytest.raises(ConfigError, match=re.escape(key)) as caught:
        Study({**CONFIGURED, "methods": ["cf"], "tune": True})
    assert "methods/cf.py" in str(caught.value)


# --- generated: every key of the default config, spoilt --------------------------------------------


def keys(node, path=()):
    """Every key of a config down to plug-ins' settings, of one architecture and of the first item of a list."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node[:1]) if isinstance(node, list) else ()
    for key, value in items:
        if key not in ("args", "vit", "l2"):
            yield from keys(value, (*path, key))


def changed(path, value, name=None):
    """The default config with another value for a key or an item, or another name for a key."""
    config = copy.deepcopy(CONFIGURED)
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    if name:
        del inner[path[-1]]
    inner[name or path[-1]] = value
    return config


def at(path):
    found = CONFIGURED
    for key in path:
        found = found[key]
    return found


CONFIGURED = convert(yaml.safe_load(DEFAULT), Config, "").model_dump(mode="json")
PATHS = list(keys(CONFIGURED))
NULLABLE = {("settings", of, role) for of in ("samples", "features") for role in ("test", "retain", "forget")}
OWN = ("groups", "init", "weights", "retrained")  # of the user's model
NULLABLE |= {("settings", "archs", arch, key) for arch in CONFIGURED["settings"]["archs"] for key in OWN}
# A forget set that the study does not use may have any name.
UNUSED = {("settings", "forgets", "class3")}
NAMED = [path for path in PATHS if isinstance(path[-1], str) and path not in UNUSED]


def dotted(path):
    return ".".join(map(str, path))


def refusal(config, path):
    """What a study says of a config, all of which stands in a file."""
    path.write_text(json.dumps(config))  # which is YAML
    with pytest.raises(ConfigError) as caught:
        Study(config, [path])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize("path", [p for p in PATHS if p not in NULLABLE], ids=dotted)
def test_null_is_no_value(path, tmp_path):
    assert dotted(path) in refusal(changed(path, None), tmp_path / "config.yaml")


@pytest.mark.parametrize("path", PATHS, ids=dotted)
def test_a_value_of_another_type(path, tmp_path):
    """A mapping for a value or a list, a text for a mapping."""
    wrong = "a text" if isinstance(at(path), dict) else {"a": "mapping"}
    assert dotted(path) in refusal(changed(path, wrong), tmp_path / "config.yaml")


@pytest.mark.parametrize("path", NAMED, ids=dotted)
def test_a_misspelt_key(path, tmp_path):
    """It is unknown itself, or missed by name."""
    assert str(path[-1]) in refusal(changed(path, at(path), f"{path[-1]}x"), tmp_path / "config.yaml")
