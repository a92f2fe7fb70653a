"""`unlearn new`: what it sees in data of each layout, and the study that it writes of it."""

import csv
import io
import json
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT
from PIL import Image

from unlearn.cli import layout, look, main, recognise, studies
from unlearn.config.settings import ConfigError
from unlearn.models.classifier import Spec, create

CLASSES = ("ant", "bee")


def picture(seed, size=(8, 8), grey=False):
    pixels = np.random.default_rng(seed).integers(256, size=(*size, 1 if grey else 3), dtype=np.uint8)
    return Image.fromarray(np.broadcast_to(pixels, (*size, 3)).copy())


def folder(root, parts, count=4, **options):
    """root/PART/CLASS/: so many images each; a part may be "."."""
    seed = iter(range(1000))
    for part in parts:
        for name in CLASSES:
            inner = root / part / name
            inner.mkdir(parents=True)
            for i in range(count):
                picture(next(seed), **options).save(inner / f"{part.strip('.')}{name}{i}.png")
    return root


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def new(here, capsys):
    """``new(…)``: the study that the command writes, and what it printed."""

    def run(*arguments):
        assert main(["new", "mine", *arguments]) == 0, capsys.readouterr().err
        return studies.read(["mine.yaml"]), capsys.readouterr().out

    return run


def refused(capsys, *arguments):
    assert main(["new", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


# --- layouts --------------------------------------------------------------------------------------


def bytes_of(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def shard(path, seed, label="label", image="image"):
    """A Parquet file as the hub has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": bytes_of(picture(seed + i)), "path": None} for i in range(8)]
    table = pa.table({image: images, label: [i % 2 for i in range(8)]})
    names = {"info": {"features": {label: {"names": list(CLASSES)}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), path)


def test_one_folder_of_classes(here):
    folder(here / "photos", ["."])
    assert layout.source("photos") == {"name": "imagefolder", "root": "photos", "train": ".", "test_fraction": 0.2}


@pytest.mark.parametrize(("train", "test"), [("train", "val"), ("train", "test"), ("training", "validation")])
def test_folders_of_both_parts(here, train, test):
    folder(here / "photos", [train, test])
    own = {} if train == "train" else {"train": train}
    assert layout.source("photos") == {"name": "imagefolder", "root": "photos", **own, "test": test}


def test_a_folder_of_test_images_without_classes_is_none(here):
    """ImageNet's and Tiny-ImageNet's: the labelled ones are in val."""
    folder(here / "photos", ["train", "val"])
    (here / "photos/test/images").mkdir(parents=True)
    assert layout.source("photos")["test"] == "val"


def test_a_training_folder_alone(here):
    folder(here / "photos", ["train"])
    assert layout.source("photos") == {"name": "imagefolder", "root": "photos", "train": "train", "test_fraction": 0.2}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.parquet", "b.parquet"], {"train": "hub", "test_fraction": 0.2}),
        (
            ["data/train-0.parquet", "data/train-1.parquet", "data/test-0.parquet"],
            {"train": "hub/data/train*.parquet", "test": "hub/data/test-0.parquet"},
        ),
        (["train/0.parquet", "train/1.parquet", "validation/0.parquet"],
         {"train": "hub/train", "test": "hub/validation/0.parquet"}),
        (["train-0.parquet", "validation-0.parquet", "test-0.parquet"],
         {"train": "hub/train-0.parquet", "test": "hub/test-0.parquet"}),
    ],
)  # fmt: skip
def test_parquet_files_in_a_folder(here, files, expected):
    for number, file in enumerate(files):
        shard(here / "hub" / file, 100 * number)
    assert layout.source("hub") == {"name": "parquet", **expected}


def test_parquet_files_that_no_pattern_names_are_refused(here):
    for name in ("a/train-0.parquet", "b/train-1.parquet", "a/test-0.parquet"):
        shard(here / "hub" / name, 0)
    with pytest.raises(ConfigError, match="no one pattern names 2 Parquet files"):
        layout.source("hub")


def test_columns_of_other_names(here):
    shard(here / "one.parquet", 0, label="fine_label", image="picture")
    found = layout.source("one.parquet")
    assert found == {
        "name": "parquet", "train": "one.parquet", "test_fraction": 0.2, "image": "picture", "label": "fine_label",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("split", [True, False])
def test_tables_of_paths(here, form, split):
    rows = [{"filename": f"{i}.png", "class": "ab"[i % 2], "split": "train" if i else "test"} for i in range(4)]
    if not split:
        rows = [{**row, "split": str(i)} for i, row in enumerate(rows)]
    path = here / f"list.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with open(path, "w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]), delimiter="\t" if form == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    part = {"split": "split"} if split else {"test_fraction": 0.2}
    own = {"path": "filename", "label": "class", **part}
    assert layout.source(path.name) == {"name": "table", "file": path.name, "root": ".", **own}


def test_torchvision(here):
    (here / "data/cifar-10-batches-py").mkdir(parents=True)
    expected = {"name": "torchvision", "dataset": "cifar10", "root": "data", "download": False}
    assert layout.source("data") == expected


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("list.csv", "a,b\n1,2\n", "no column of paths among a, b"),
        ("list.csv", "path,b\n1,2\n", "no column of classes among path, b"),
        ("list.csv", "", "not a readable CSV file"),
        ("list.parquet", "x", "not a readable Parquet file"),
        ("list.zip", "x", "neither Parquet nor CSV nor TSV"),
    ],
)
def test_files_of_no_known_layout_are_refused(here, file, text, message):
    (here / file).write_text(text)
    with pytest.raises(ConfigError, match=message):
        layout.source(file)


# --- what is seen ---------------------------------------------------------------------------------


def test_copies_are_counted(dataset):
    from unlearn.io import tables
    from unlearn.io.schema.dataset import DATASET

    assert look.copies(dataset) == ["no two images are equal pixel by pixel"]
    found = tables.read(DATASET, dataset).to_pydict()
    found["digest"][1] = found["digest"][0]  # of another class
    found["digest"][40] = found["digest"][4]  # a test image, of the same class
    tables.write(DATASET, "copies.parquet", found, {"classes": list("abcd"), "shape": [1, 8, 8]})
    assert look.copies("copies.parquet") == [
        "warning: 4 images equal another one pixel by pixel; "
        "1 test images equal a training image, 2 have several classes"
    ]


def test_a_study_of_a_folder(here, new):
    """All that was seen is printed; the study is the folder's, with constants that no image chose."""
    folder(here / "photos", ["train", "val"])
    (here / "photos/train/ant/notes.txt").write_text("x")
    study, printed = new("--data", "photos")
    for line in (
        "16 read, 1 left out: .txt 1",
        "16 images of shape (3, 8, 8) in 2 classes",
        "class ant: 4 training images, 4 test images",
        "no two images are equal pixel by pixel",
        "forget 1, retain 7, test 8",
    ):
        assert f"{line}\n" in printed
    assert study.config["study"] == study.config["dataset"] == "mine"
    assert study.dataset["source"] == {"name": "imagefolder", "root": "photos", "test": "val"}
    assert study.dataset["normalize"] == {"mean": [0.5], "std": [0.25]}
    assert study.dataset["eps"] == {"linf": "calibrate", "l2": "calibrate"}
    assert (study.config["archs"], study.config["forgets"]) == (["resnet"], ["random10"])


def test_normalization_does_not_depend_on_the_images(here, new):
    found = []
    for name, darkening in (("dark", 8), ("light", 1)):
        folder(here / name, ["train", "val"])
        for path in (here / name).rglob("*.png"):
            Image.fromarray(np.asarray(Image.open(path)) // darkening).save(path)
        found.append(new("--data", name)[0].dataset["normalize"])
        (here / "mine.yaml").unlink()
    assert found[0] == found[1]


def test_sizes_and_colour(here, new):
    """Different sizes get one, images without colour one channel."""
    folder(here / "photos", ["train"], size=(40, 50), grey=True)
    picture(999, size=(70, 40), grey=True).save(here / "photos/train/ant/tall.png")
    study, printed = new("--data", "photos")
    assert {key: study.dataset["source"].get(key) for key in ("size", "mode")} == {"size": 32, "mode": "L"}
    assert "different sizes (40×70 and 50×40, …): resized and cut to 32×32" in printed
    assert "no image has colour: read as grey" in printed
    assert "of shape (1, 32, 32)" in printed


def test_grey_images_stay_in_colour_for_weights_that_want_it(here):
    folder(here / "photos", ["train"], grey=True)
    for grey in (True, False):
        source, _ = look.suited(layout.source("photos"), "dataset.parquet", grey=grey)
        assert ("mode" in source) == grey


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_say_how_many_channels_they_want(here, channels):
    torch.save(create(Spec("resnet18", 2, (channels, 8, 8)), 0).net.state_dict(), "mine.pt")
    assert recognise.channels("mine.pt") == channels


def test_images_of_64_pixels_get_a_larger_model(here, new):
    folder(here / "photos", ["train"], size=(64, 64))
    study, _ = new("--data", "photos")
    assert study.config["archs"] == ["resnet18"]
    assert study.arch("resnet18")["model"] == "resnet18"
    assert "size" not in study.dataset["source"]


def test_a_forget_list(here, new):
    folder(here / "photos", ["train", "val"])
    (here / "forget.txt").write_text("trainant1.png\n")
    study, printed = new("--data", "photos", "--forget", "forget.txt")
    assert study.split_settings("listed") == {"kind": "files", "file": "forget.txt"}
    assert study.config["forgets"] == ["listed"]
    assert "listed: forget 1, retain 7, test 8" in printed


def test_a_list_of_ids(here, new):
    folder(here / "photos", ["train", "val"])
    (here / "forget.txt").write_text("0\n3\n")
    assert new("--data", "photos", "--forget", "forget.txt")[0].split_settings("listed")["kind"] == "ids"


# --- weights --------------------------------------------------------------------------------------

NET = """
from torch import nn

class Means(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.conv, self.head = nn.Conv2d(channels, 1, 8), nn.Linear(1, classes)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))

def build(num_classes, in_chans):
    return Means(num_classes, in_chans)
"""


@pytest.fixture
def trained(here):
    """Dark ants and light bees, and a model that tells them apart under ImageNet's normalization alone: its threshold
    is at 125, and under the other constants at 132 or beyond."""
    (here / "net.py").write_text(NET)
    for part in ("train", "val"):
        for label, (low, high) in zip(CLASSES, ((115, 122), (128, 131)), strict=True):
            inner = here / "photos" / part / label
            inner.mkdir(parents=True)
            for i in range(6):
                rng = np.random.default_rng([len(part), low, i])
                Image.fromarray(rng.integers(low, high, size=(8, 8, 3), dtype=np.uint8)).save(inner / f"{i}.png")
    constants = recognise.NORMALIZATIONS["ImageNet's"]
    net = create(Spec("net.py:build", 2, (3, 8, 8), normalize=constants), 0).net
    with torch.no_grad():
        net.conv.weight.fill_(1 / 192)
        net.conv.bias.zero_()
        middle = sum((125 / 255 - m) / s for m, s in zip(*constants.values(), strict=True)) / 3
        net.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        net.head.bias.copy_(torch.tensor([middle, -middle]))
    torch.save(net.state_dict(), here / "mine.pt")


def test_weights_choose_among_known_constants(trained, new):
    study, printed = new("--data", "photos", "--weights", "mine.pt", "--model", "net.py:build")
    assert study.dataset["normalize"] == recognise.NORMALIZATIONS["ImageNet's"]
    assert "accuracy of the weights on 12 training images by normalization:" in printed
    assert "0.5 and 0.25 0.500" in printed
    assert "ImageNet's 1.000" in printed
    assert "as good" not in printed
    assert (study.config["archs"], study.arch("own")["weights"]) == (["own"], "mine.pt")
    assert study.config["scopes"] == ["all"], "the model has no groups"


def test_constants_that_the_weights_cannot_tell_apart_are_a_warning(trained, new, here):
    """The classes are so far apart that other constants do as well."""
    for path in (here / "photos").rglob("*.png"):
        dark = path.parent.name == "ant"
        Image.fromarray(np.asarray(Image.open(path)) // 4 + (0 if dark else 190)).save(path)
    _, printed = new("--data", "photos", "--weights", "mine.pt", "--model", "net.py:build")
    assert "is as good by this sample: check normalize" in printed


def test_weights_say_which_stem_they_have(here):
    folder(here / "photos", ["train"])
    look.suited(layout.source("photos"), "dataset.parquet", grey=False)
    for stem in ("native", "cifar"):
        net = create(Spec("resnet18", 2, (3, 8, 8), stem=stem), 0)
        torch.save(net.net.state_dict(), f"{stem}.pt")
        assert recognise.built("dataset.parquet", "resnet18", f"{stem}.pt").spec.stem == stem


def test_weights_that_know_nothing_are_refused(trained, capsys, here):
    torch.save({name: 0 * tensor for name, tensor in torch.load(here / "mine.pt").items()}, here / "mine.pt")
    arguments = ["mine", "--data", "photos", "--weights", "mine.pt", "--model", "net.py:build"]
    assert "settings.archs.own.weights: mine.pt: " in refused(capsys, *arguments)
    assert not (here / "mine.yaml").exists()


# --- what is refused ------------------------------------------------------------------------------


def test_a_study_that_is_there_is_left_alone(here, capsys):
    folder(here / "photos", ["train"])
    (here / "mine.yaml").write_text("mine")
    assert "mine.yaml: is there already" in refused(capsys, "mine", "--data", "photos")
    assert (here / "mine.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["../mine", "--data", "photos"], "STUDY: '../mine' does not match"),
        (["digits", "--data", "photos"], "STUDY: 'digits' is a data set of config.yaml"),
        (["mine", "--data", "nowhere"], "nowhere: no such file or folder"),
        (["mine", "--data", "photos", "--weights", "w.pt"], "--weights: needs --model"),
        (["mine", "--data", "photos", "--forget", "f.txt"], "f.txt: no such file"),
        (["mine", "--data", "photos", "--model", "resnet81"], "'resnet81' is neither timm's nor smallvit"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(here, capsys, arguments, message):
    folder(here / "photos", ["train"])
    assert message in refused(capsys, *arguments)
    assert not list(here.glob("*.yaml"))


def test_a_list_of_unknown_files_is_refused(here, capsys):
    folder(here / "photos", ["train", "val"])
    (here / "forget.txt").write_text("trainant1.png\nnowhere.png\n")
    error = refused(capsys, "mine", "--data", "photos", "--forget", "forget.txt")
    assert "settings.forgets.listed.file: forget.txt lists 1 no training images: nowhere.png" in error
    assert not (here / "mine.yaml").exists()


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two words", "é#: {x}", "yes", "12", "it's"])
def test_any_path_survives_the_file(here, new, name):
    folder(here / name, ["train", "val"])
    study, _ = new("--data", name)
    assert study.dataset["source"]["root"] == name


@pytest.mark.slow
def test_snakemake_plans_it(here, new):
    folder(here / "photos", ["."], size=(64, 64))
    (here / "forget.txt").write_text("ant1.png\n")
    new("--data", "photos", "--forget", "forget.txt")
    command = [sys.executable, "-m", "snakemake", "-s", f"{ROOT}/Snakefile", "--configfile", "mine.yaml", "-n"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^pretrain +1$", done.stdout, re.M)
