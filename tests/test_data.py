"""Every source gives the images its files hold, and names the file that it cannot read."""

import io
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from unlearn.api.data import DataError, decode
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET
from unlearn.models import images
from unlearn.stages.dataset import dataset as dataset_stage

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(256, size=(6, 3, 4, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
NAMES = ["ant", "bee", "cat"]


def load(name, **settings):
    """Class names, and split → (pixels, labels) of all chunks together."""
    source = plugins.load("data", name).load(plugins.settings("data", name, settings))
    chunks = list(source.chunks)
    order = [chunk.split for chunk in chunks]
    assert order == sorted(order, reverse=True), "all of train, then all of test"
    assert all(chunk.pixels.dtype == np.uint8 for chunk in chunks)
    join = np.concatenate
    found = {s: [c for c in chunks if c.split == s] for s in ("train", "test")}
    return source.classes, {s: (join([c.pixels for c in p]), join([c.labels for c in p])) for s, p in found.items()}


def encoded(picture, form="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(buffer, form)
    return buffer.getvalue()


# --- digits ---------------------------------------------------------------------------------------


def test_digits_are_scikit_learns():
    classes, found = load("digits")
    (train, y), (test, z) = found["train"], found["test"]
    assert classes == [str(digit) for digit in range(10)]
    assert (train.shape, test.shape) == ((1347, 1, 8, 8), (450, 1, 8, 8))
    levels = {round(level * 255 / 16) for level in range(17)}
    assert set(np.unique(train)) | set(np.unique(test)) == levels

    digits = load_digits()
    original = sorted((int(label), *map(int, image.ravel())) for label, image in zip(digits.target, digits.images))
    both = np.concatenate([train, test]).reshape(-1, 64) / 255 * 16
    ours = sorted((int(label), *map(int, image)) for label, image in zip(np.concatenate([y, z]), both.round()))
    assert ours == original


def test_digits_are_stratified_and_drawn_by_seed():
    _, found = load("digits")
    counts = np.bincount(load_digits().target)
    assert np.abs(np.bincount(found["test"][1]) - counts * 450 / 1797).max() < 1
    np.testing.assert_array_equal(load("digits", seed=0)[1]["test"][0], found["test"][0])
    assert not np.array_equal(load("digits", seed=1)[1]["test"][0], found["test"][0])


# --- Parquet of the Hugging Face hub --------------------------------------------------------------


def hub_file(path, cells=None, labels=LABELS, names=NAMES, kind=None):
    """A file as ``datasets`` writes it: struct<bytes, path>, a label, and the features in the metadata."""
    cells = [{"bytes": encoded(p), "path": f"{i}.png"} for i, p in enumerate(PICTURES)] if cells is None else cells
    kind = kind or pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"img": pa.array(cells, kind), "label": pa.array(labels)})
    features = {"img": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return str(path)


def test_parquet(tmp_path):
    train, test = hub_file(tmp_path / "train.parquet"), hub_file(tmp_path / "test.parquet")
    classes, found = load("parquet", train=train, test=test)
    assert classes == NAMES
    for pixels, labels in found.values():
        np.testing.assert_array_equal(pixels, PICTURES)
        np.testing.assert_array_equal(labels, LABELS)


def test_parquet_keeps_a_stratified_part_across_chunks(tmp_path, monkeypatch):
    """The first rows of a file that is sorted by class would be one class (cs231n's and ImageNet's shards are)."""
    monkeypatch.setattr(plugins.load("data", "parquet"), "CHUNK", 4)
    order = np.argsort(LABELS, kind="stable")
    cells = [{"bytes": encoded(PICTURES[i]), "path": ""} for i in order]
    train = hub_file(tmp_path / "train.parquet", cells, LABELS[order])
    test = hub_file(tmp_path / "test.parquet")
    _, found = load("parquet", train=train, test=test, max_train=3)
    pixels, labels = found["train"]
    assert labels.tolist() == [0, 1, 2]
    rows = [np.flatnonzero((picture == PICTURES).all((1, 2, 3))).tolist() for picture in pixels]
    assert [LABELS[row].tolist() for row in rows] == [[0], [1], [2]]
    np.testing.assert_array_equal(found["test"][0], PICTURES)
    others = [load("parquet", train=train, test=test, max_train=3, seed=seed)[1]["train"][0] for seed in range(5)]
    assert len({other.tobytes() for other in others}) > 1


def test_parquet_converts_mode_and_size(tmp_path):
    train, test = hub_file(tmp_path / "train.parquet"), hub_file(tmp_path / "test.parquet")
    _, found = load("parquet", train=train, test=test, mode="L", size=2)
    assert found["train"][0].shape == (6, 1, 2, 2)


PLAIN = [encoded(p) for p in PICTURES]
BAD = {
    "no image": ({"cells": [{"bytes": b"no image", "path": ""}] * 6}, "row 0: not a readable image"),
    "no bytes": ({"cells": [{"bytes": None, "path": "x.png"}] * 6}, r"row 0: holds a path \(x.png\) .* `root`"),
    "nothing": ({"cells": [None, {"bytes": None, "path": None}] * 3}, "row 0: holds no image; 5 more"),
    "half an image": ({"cells": [{"bytes": PLAIN[0][:60], "path": ""}] * 6}, "row 0: not a readable image"),
    "no images": ({"cells": range(6), "kind": pa.int64()}, "'img' holds int64, must be"),
    "label too large": ({"labels": [0, 1, 2, 3, 0, 1]}, "label"),
    "label negative": ({"labels": [0, 1, 2, -1, 0, 1]}, "label"),
    "label missing": ({"labels": [0, 1, 2, None, 0, 1]}, "label"),
    "label another text": ({"labels": ["ant", "bee", "cat", "dog", *NAMES[:2]]}, "1 rows have no label.*: rows 3"),
    "label a float": ({"labels": [0.0, 1.0, 2.0] * 2}, "'label' holds double, must be integers or texts"),
    "no classes": ({"names": None}, "class names differ"),
    "other classes": ({"names": [*NAMES, "dog"]}, "class names differ"),
}


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD)
def test_parquet_names_the_bad_file(tmp_path, bad, message):
    train, test = hub_file(tmp_path / "train.parquet"), hub_file(tmp_path / "test.parquet", **bad)
    with pytest.raises(DataError, match=message) as caught:
        load("parquet", train=train, test=test)
    assert str(caught.value).startswith(test)


def test_parquet_refuses_images_of_several_shapes(tmp_path):
    cells = [{"bytes": encoded(p[:, : 3 + i % 2]), "path": ""} for i, p in enumerate(PICTURES)]
    train, test = hub_file(tmp_path / "train.parquet"), hub_file(tmp_path / "test.parquet", cells)
    with pytest.raises(DataError, match=r"t\.parquet, row 0: images have different shapes, .*row 0 \(3, 4, 4\)"):
        load("parquet", train=train, test=test)
    assert load("parquet", train=train, test=test, size=4)[1]["test"][0].shape == (6, 3, 4, 4)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"PAR1"), "not a readable Parquet file"),
        (lambda path: pq.write_table(pa.table({"image": [1]}), path), "no column 'label'; there are image"),
        (lambda path: pq.write_table(pa.table({"label": [1]}), path), "no column 'image' or 'img'; there are label"),
    ],
)
def test_parquet_names_the_missing_or_foreign_file(tmp_path, harm, message):
    train, test = hub_file(tmp_path / "train.parquet"), hub_file(tmp_path / "test.parquet")
    harm(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=message) as caught:
        load("parquet", train=train, test=test)
    assert str(caught.value).startswith(train)


# --- image folders --------------------------------------------------------------------------------


def put(path, picture, form="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture, form))


@pytest.fixture
def imagenet(tmp_path):
    """root/{train,val}/<class>/*.png, with nested folders and a stray text."""
    for split in ("train", "val"):
        for i, (picture, label) in enumerate(zip(PICTURES, LABELS, strict=True)):
            put(tmp_path / split / NAMES[label] / ("deep" if i > 2 else ".") / f"{i}.png", picture)
    (tmp_path / "train/ant/readme.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def tiny_imagenet(imagenet):
    """Tiny-ImageNet's val: a flat folder and a list of classes."""
    (imagenet / "val").rename(imagenet / "elsewhere")
    for i, picture in enumerate(PICTURES):
        put(imagenet / f"val/images/val_{i}.JPEG", picture)
    lines = [f"val_{i}.JPEG\t{NAMES[label]}\t0\t0\t3\t3" for i, label in enumerate(LABELS)]
    (imagenet / "val/val_annotations.txt").write_text("\n".join(reversed(lines)) + "\n")
    return imagenet


def test_imagefolder(imagenet):
    classes, found = load("imagefolder", root=str(imagenet))
    assert classes == NAMES
    for pixels, labels in found.values():
        np.testing.assert_array_equal(labels, np.sort(LABELS))
        np.testing.assert_array_equal(pixels, PICTURES[np.argsort(LABELS, kind="stable")])


def test_hidden_files_and_folders_are_no_images_and_no_classes(imagenet):
    """macOS, Jupyter and NFS leave them behind; a change of one remakes nothing (``unlearn.provenance.sources``)."""
    (imagenet / "train/.ipynb_checkpoints").mkdir()
    (imagenet / f"train/{NAMES[0]}/.hidden").mkdir()
    for name in (f"train/{NAMES[0]}/._1.png", f"train/{NAMES[0]}/.hidden/1.png", "val/.DS_Store"):
        (imagenet / name).write_bytes(b"no image")
    classes, found = load("imagefolder", root=str(imagenet))
    assert classes == NAMES
    assert all(len(labels) == len(LABELS) for _, labels in found.values())


def test_imagefolder_of_tiny_imagenet(tiny_imagenet):
    _, found = load("imagefolder", root=str(tiny_imagenet))
    np.testing.assert_array_equal(found["test"][0], PICTURES[::-1])
    np.testing.assert_array_equal(found["test"][1], LABELS[::-1])


@pytest.mark.parametrize(
    ("harm", "file", "message"),
    [
        (lambda root: put(root / "val/dog/0.png", PICTURES[0]), "val", "classes dog are not in the training folder"),
        (lambda root: (root / "train").rename(root / "training"), "train", "no such folder"),
        (lambda root: (root / "val").rename(root / "test"), "val", "no such folder"),
        (lambda root: (root / "val/bee/1.png").write_bytes(b""), "val/bee/1.png", "not a readable image"),
        (lambda root: put(root / "val/bee/1.png", PICTURES[1][:, :2]), "", "different shapes"),
    ],
)
def test_imagefolder_names_the_bad_file(imagenet, harm, file, message):
    harm(imagenet)
    with pytest.raises(DataError, match=message) as caught:
        load("imagefolder", root=str(imagenet))
    assert str(caught.value).startswith(str(imagenet / file))


def test_imagefolder_refuses_an_empty_tree(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        load("imagefolder", root=str(tmp_path))
    (tmp_path / "train/ant").mkdir()
    with pytest.raises(DataError, match="no images"):
        load("imagefolder", root=str(tmp_path))


@pytest.mark.parametrize("line", ["val_0.JPEG\tdog\t0", "val_0.JPEG ant", ""])
def test_tiny_imagenets_list_names_the_bad_line(tiny_imagenet, line):
    file = tiny_imagenet / "val/val_annotations.txt"
    file.write_text(f"val_1.JPEG\tbee\n{line}\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt, line 2"):
        load("imagefolder", root=str(tiny_imagenet))


def test_tiny_imagenets_list_names_a_missing_image(tiny_imagenet):
    (tiny_imagenet / "val/images/val_3.JPEG").unlink()
    with pytest.raises(DataError, match=r"val_3\.JPEG: not a readable image"):
        load("imagefolder", root=str(tiny_imagenet))


def test_decode_names_what_is_damaged_inside():
    """Pillow raises SyntaxError, and no OSError, where a PNG's chunks have wrong lengths."""
    damaged = encoded(PICTURES[0]).replace(b"?IDAT", b"\0IDAT")
    with pytest.raises(DataError, match=r"cat\.png: not a readable image"):
        decode(damaged, "RGB", None, "cat.png")


# --- torchvision ----------------------------------------------------------------------------------


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Six images in CIFAR-10's own layout: five pickled training batches, a test batch, the names."""
    from torchvision.datasets import cifar

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    parts = {f"data_batch_{i}": slice(i - 1, i) for i in range(1, 6)} | {"test_batch": slice(5, 6)}
    for name, part in parts.items():
        content = {"data": PICTURES[part].repeat(8, 2).repeat(8, 3).reshape(-1, 3072), "labels": LABELS[part].tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: True)
    return tmp_path


def test_torchvision_cifar10(cifar10):
    classes, found = load("torchvision", dataset="cifar10", root=str(cifar10), download=False)
    assert classes == NAMES
    assert found["train"][0].shape == (5, 3, 32, 32)
    np.testing.assert_array_equal(found["train"][0][:, :, ::8, ::8], PICTURES[:5])
    np.testing.assert_array_equal(found["test"][0][:, :, ::8, ::8], PICTURES[5:])
    np.testing.assert_array_equal(found["train"][1], LABELS[:5])


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "fashion-mnist"])
def test_torchvision_names_the_folder_without_data(tmp_path, name):
    with pytest.raises(DataError, match=f"{tmp_path}: {name} is not there"):
        load("torchvision", dataset=name, root=str(tmp_path), download=False)


# --- the stage ------------------------------------------------------------------------------------


OTHERS = [{"bytes": encoded(255 - p), "path": ""} for p in PICTURES]  # the negatives


def test_stage_writes_what_the_source_gives(tmp_path):
    train, test = hub_file(tmp_path / "train.parquet"), hub_file(tmp_path / "test.parquet", OTHERS)
    out = str(tmp_path / "dataset.parquet")
    dataset_stage(out, {"name": "parquet", "train": train, "test": test, "max_test": 3})
    assert images.describe(out) == (NAMES, (3, 4, 4))
    found = images.training_set(out)
    np.testing.assert_array_equal(found.pixels.numpy(), PICTURES)
    np.testing.assert_array_equal(found.labels.numpy(), LABELS)
    written = tables.read(DATASET, out).to_pydict()
    assert written["id"] == list(range(9))
    assert written["origin"][:6] == [f"train.parquet:{row}" for row in range(6)]
    assert len(set(written["digest"])) == 9


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"cells": [{"bytes": encoded(p[:, :3]), "path": ""} for p in PICTURES]}, r"this one \(3, 3, 4\), but .*train"),
        ({}, "all 6 test images are training images too, pixel by pixel"),
        ({"cells": OTHERS[::3], "labels": [0, 0]}, "no test images in bee, cat; `empty_classes: allow` goes on"),
        ({"cells": [], "labels": pa.array([], pa.int64())}, "needs training and test images, has"),
    ],
)
def test_stage_refuses_splits_that_do_not_fit(tmp_path, bad, message):
    train, test = hub_file(tmp_path / "train.parquet"), hub_file(tmp_path / "test.parquet", **bad)
    with pytest.raises(DataError, match=message):
        dataset_stage(str(tmp_path / "out.parquet"), {"name": "parquet", "train": train, "test": test})
    assert not (tmp_path / "out.parquet").exists()


def test_stage_refuses_no_images_at_all(tmp_path):
    train, test = (hub_file(tmp_path / f"{name}.parquet", [], pa.array([], pa.int64())) for name in ("train", "test"))
    with pytest.raises(DataError, match="needs training and test images"):
        dataset_stage(str(tmp_path / "out.parquet"), {"name": "parquet", "train": train, "test": test})
