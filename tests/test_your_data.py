"""Data as people have them: what can be read is read, what is left out is counted, the rest is refused in one line."""

import csv
import json
import logging
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unlearn.api.data import DataError, decode, divided, stratified
from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.schema.dataset import DATASET
from unlearn.stages.dataset import check_names, dataset, digest

CLASSES = ("ant", "bee")


def pixels(seed, size=4):
    return np.random.default_rng(seed).integers(256, size=(size, size, 3), dtype=np.uint8)


def put(path, seed, **options):
    """An image file of random pixels that differ by seed; BMP's bytes for formats that would change them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """root/{train,val}/{ant,bee}: three images each to train, two to test."""
    seed = iter(range(100))
    for split, count in (("train", 3), ("val", 2)):
        for name in CLASSES:
            for i in range(count):
                put(tmp_path / "photos" / split / name / f"{name}{i}.png", next(seed))
    return tmp_path / "photos"


@pytest.fixture
def made(tmp_path, caplog):
    """``made(name=…)``: the table that the stage makes of a source, and what it logged."""
    caplog.set_level(logging.INFO, "unlearn")
    logging.getLogger("unlearn").propagate = True

    def make(**settings):
        caplog.clear()
        out = str(tmp_path / "dataset.parquet")
        dataset(
            out, {key: str(value) if key in ("root", "file", "train") else value for key, value in settings.items()}
        )
        return tables.read(DATASET, out).to_pandas(), caplog.text

    return make


def counts(table):
    return table.groupby("split")["label"].agg(list).to_dict()


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_with_every_quirk(folder, made, tmp_path):
    train = folder / "train"
    put(train / "ant/scan.TIF", 50)
    more = [Image.fromarray(pixels(seed)) for seed in (151, 152)]
    put(train / "ant/moving.gif", 51, save_all=True, append_images=more)
    put(train / "bee/grey.pgm", 52)
    put(train / "bee/photo.jfif", 53, format="JPEG")
    put(train / "ant/.ipynb_checkpoints/ant0-checkpoint.png", 54)
    put(train / ".ipynb_checkpoints/ant0-checkpoint.png", 55)
    put(tmp_path / "elsewhere/more/linked.png", 56)
    (train / "bee/more").symlink_to(tmp_path / "elsewhere/more")
    (train / "bee/single.png").symlink_to(put(tmp_path / "elsewhere/single.png", 57))
    (train / "bee/lost.png").symlink_to(tmp_path / "nowhere.png")
    (train / "bee/up").symlink_to(train)
    os.mkfifo(train / "ant/pipe.png")
    for name in ("a.heic", "b.HEIC", "notes.txt", "README", "._ant0.png", ".DS_Store"):
        (train / "ant" / name).write_bytes(b"no image")
    (train / "labels.csv").write_text("x")
    table, log = made(name="imagefolder", root=folder)
    training = table.loc[table["split"] == "train", "origin"].str.removeprefix("train/").tolist()
    assert training == [
        *("ant/ant0.png", "ant/ant1.png", "ant/ant2.png", "ant/moving.gif", "ant/scan.TIF"),
        *("bee/bee0.png", "bee/bee1.png", "bee/bee2.png", "bee/grey.pgm"),
        *("bee/more/linked.png", "bee/photo.jfif", "bee/single.png"),
    ]
    twice, once = "hidden 4, .heic 2, further frames 2", "no extension 1, .txt 1, no regular file 1, broken link 1"
    assert f"16 read, 14 left out: {twice}, beside the classes 1, {once}, link to a folder above 1\n" in log
    assert "class ant: 5 training images, 2 test images" in log


def test_unreadable_images_are_listed_all_at_once_or_left_out(folder, made):
    broken = [folder / "train/ant/ant0.png", folder / "val/bee/bee1.png", folder / "train/bee/bee2.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"; 2 more: .*`unreadable: leave out`") as caught:
        made(name="imagefolder", root=folder)
    assert all(str(path) in str(caught.value) for path in broken)
    table, log = made(name="imagefolder", root=folder, unreadable="leave out")
    assert counts(table) == {"train": [0, 0, 1, 1], "test": [0, 0, 1]}
    assert "7 read, 3 left out: unreadable 3" in log
    assert all(str(path) in log for path in broken)


def test_all_images_of_no_format_are_counted_in_the_refusal(folder, made):
    for path in folder.rglob("*.png"):
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"train: no images \(left out: \.heic 6\)"):
        made(name="imagefolder", root=folder)


@pytest.mark.parametrize(("split", "what"), [("train", "no train images in cow"), ("val", "no test images in cow")])
def test_a_class_without_images_is_refused_unless_allowed(folder, made, split, what):
    for other in ("train", "val"):
        put(folder / other / "cow/1.png", 60 + len(other))
    (folder / split / "cow/1.png").unlink()
    with pytest.raises(DataError, match=what):
        made(name="imagefolder", root=folder)
    table, log = made(name="imagefolder", root=folder, empty_classes="allow")
    assert what in log
    assert len(table) == 11


def test_pixels_are_turned_as_exif_says(tmp_path):
    """Orientation 6: the camera was held upright, and row 0 is the right side."""
    image = Image.fromarray(pixels(0))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(
        decode(tmp_path / "turned.png", "RGB", None, ""), np.rot90(pixels(0), -1).transpose(2, 0, 1)
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize(("background", "level"), [("white", 255), ("black", 0), ("#808080", 128)])
def test_transparent_pixels_show_the_background(tmp_path, mode, background, level):
    """The hidden colour of these is 77: what an editor left under what it erased."""
    path = tmp_path / "clear.png"
    if mode == "P":
        image = Image.new("P", (2, 2), 0)
        image.putpalette([77, 77, 77])
        image.save(path, transparency=0)
    else:
        Image.new(mode, (2, 2), (77,) * (len(mode) - 1) + (0,)).save(path)
    assert (decode(path, "RGB", None, "", background) == level).all()
    assert decode(path, "L", None, "", background).shape == (1, 2, 2)


def test_half_transparent_pixels_are_mixed(tmp_path):
    Image.new("RGBA", (1, 1), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert decode(tmp_path / "half.png", "L", None, "").item() == pytest.approx(255 - 128, abs=1)


def test_one_folder_is_divided(folder, made):
    for i in range(17):
        put(folder / f"train/ant/more{i}.png", 200 + i)
    one, _ = made(name="imagefolder", root=folder / "train", train=".", test_fraction=0.25)
    assert counts(one) == {"train": [0] * 15 + [1] * 2, "test": [0] * 5 + [1]}
    assert one["origin"].is_unique
    again, _ = made(name="imagefolder", root=folder / "train", train=".", test_fraction=0.25)
    other, _ = made(name="imagefolder", root=folder / "train", train=".", test_fraction=0.25, seed=1)
    assert one.equals(again)
    assert not one["origin"].equals(other["origin"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test": "train"}, "lie in the training folder"),
        ({"test": "link"}, "lie in the training folder"),
        ({"train": "link", "test": "train"}, "lie in the training folder"),
        ({"train": ".", "test": "val"}, "lie in the training folder"),
        ({"test": "val", "test_fraction": 0.5}, "exclude each other"),
        ({"test": "copy"}, "all 6 test images are training images too"),
    ],
)
def test_a_test_that_is_no_test_is_refused(folder, made, settings, message):
    (folder / "link").symlink_to(folder / "train")
    for path in list((folder / "train").rglob("*.png")):
        target = folder / "copy" / path.relative_to(folder / "train")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=message):
        made(name="imagefolder", root=folder, **settings)


def test_some_copies_in_the_test_are_said(folder, made):
    (folder / "val/ant/ant0.png").write_bytes((folder / "train/bee/bee0.png").read_bytes())
    table, log = made(name="imagefolder", root=folder)
    assert "1 of 4 test images are training images too" in log
    assert table["digest"].duplicated().sum() == 1


def test_names_that_unicode_writes_in_two_ways_are_one(folder, made):
    put(folder / "train/e\u0301t\u00e9/1.png", 70)
    put(folder / "val/\u00e9te\u0301/1.png", 71)
    table, _ = made(name="imagefolder", root=folder)
    assert sorted(table["label"].unique()) == [0, 1, 2]
    put(folder / "train/\u00e9t\u00e9/2.png", 72)
    with pytest.raises(DataError, match="a second folder of class"):
        made(name="imagefolder", root=folder)


def test_a_file_name_that_is_no_text(folder, made):
    (folder / "train/ant/ant0.png").rename(os.fsdecode(os.fsencode(folder / "train/ant") + b"/\xe9.png"))
    table, _ = made(name="imagefolder", root=folder)
    assert r"train/ant/\xe9.png" in table["origin"].tolist()


def test_equal_pixels_have_equal_digests():
    assert digest(b"1234") == digest(b"1234") != digest(b"1235")
    assert -(2**63) <= digest(b"") < 2**63


# --- Parquet --------------------------------------------------------------------------------------


def shard(path, rows, labels, cell=lambda data, name: {"bytes": data, "path": name}, features=(), **more):
    """A Parquet file of the images with these seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = []
    for seed in rows:
        file = put(path.with_suffix(f".{seed}.png"), seed)
        cells.append(cell(file.read_bytes(), file.name))
    table = pa.table({"image": cells, "label": labels, **more})
    if features:
        info = {"info": {"features": {"label": {"names": list(features)}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path)
    return path


CELLS = {
    "struct": (lambda data, name: {"bytes": data, "path": name}, False),
    "bytes alone": (lambda data, name: data, False),
    "path alone": (lambda data, name: name, True),
    "path in a struct": (lambda data, name: {"bytes": None, "path": name}, True),
}


@pytest.mark.parametrize(("cell", "by_path"), CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("where", ["data", "data/train-*.parquet", "data/**/train-*.parquet"])
def test_shards_in_every_layout(tmp_path, made, monkeypatch, where, cell, by_path):
    monkeypatch.chdir(tmp_path)
    shard(tmp_path / "data/train-00001.parquet", [2, 3], ["bee", "ant"], cell, person=[17, 18])
    shard(tmp_path / "data/train-00000.parquet", [0, 1], ["ant", "bee"], cell, person=[17, None])
    test = shard(tmp_path / "test/0.parquet", [4, 5], ["ant", "bee"], cell, person=[19, 19])
    roots = {"root": tmp_path / "data"} if by_path else {}
    for seed in (4, 5):
        put(tmp_path / f"data/0.{seed}.png", seed)
    settings = {"train": where, "test": str(test), "attributes": ["person"]}
    table, _ = made(name="parquet", **settings, **roots)
    assert counts(table) == {"train": [0, 1, 1, 0], "test": [0, 1]}
    assert table["person"].fillna("none").tolist() == ["17", "none", "17", "18", "19", "19"]
    assert table["image"].tolist() == [pixels(seed).transpose(2, 0, 1).tobytes() for seed in range(6)]
    if by_path:
        assert table["origin"][0] == "train-00000.0.png"
        with pytest.raises(DataError, match=r"train-00000\.parquet, row 0: holds a path .*`root`"):
            made(name="parquet", **settings)
    else:
        assert table["origin"].tolist()[:3] == [
            f"data/train-0000{k}.parquet:{row}" for k, row in [(0, 0), (0, 1), (1, 0)]
        ]


def test_integer_labels_need_names(tmp_path, made):
    train = shard(tmp_path / "train.parquet", [0, 1], [0, 1])
    settings = {"train": train, "test": str(shard(tmp_path / "test.parquet", [2, 3], [0, 1]))}
    with pytest.raises(DataError, match="names no classes for column 'label'; list them with `classes`"):
        made(name="parquet", **settings)
    made(name="parquet", **settings, classes=["ant", "bee"])
    assert tables.metadata(tmp_path / "dataset.parquet")["classes"] == ["ant", "bee"]
    with pytest.raises(DataError, match="none of the 1 classes: rows 1"):
        made(name="parquet", **settings, classes=["ant"])
    for name, rows in (("train", [0, 1]), ("test", [2, 3])):
        shard(tmp_path / f"{name}.parquet", rows, [0, 1], features=["cat", "dog"])
    with pytest.raises(DataError, match="otherwise than `classes` does: cat, dog"):
        made(name="parquet", **settings, classes=["ant", "bee"])


def test_null_images_are_named_by_row_all_at_once(tmp_path, made):
    train = shard(tmp_path / "train.parquet", range(6), ["ant", "bee"] * 3)
    table = pq.read_table(train)
    cells = [cell if i not in (1, 4) else None for i, cell in enumerate(table["image"].to_pylist())]
    pq.write_table(table.set_column(0, "image", pa.array(cells)), train)
    test = shard(tmp_path / "test.parquet", [7, 8], ["ant", "bee"])
    with pytest.raises(DataError, match=r"row 1: holds no image; 1 more: .*train\.parquet, row 4;"):
        made(name="parquet", train=train, test=str(test))
    table, _ = made(name="parquet", train=train, test=str(test), unreadable="leave out")
    assert table["origin"].tolist()[:4] == [f"train.parquet:{row}" for row in (0, 2, 3, 5)]


def test_one_parquet_file_is_divided_and_is_no_test_of_itself(tmp_path, made):
    train = shard(tmp_path / "all.parquet", range(8), ["ant"] * 4 + ["bee"] * 4)
    with pytest.raises(DataError, match="is a training and a test file; `test_fraction`"):
        made(name="parquet", train=train, test=str(tmp_path / "*.parquet"))
    with pytest.raises(DataError, match="needs either test files"):
        made(name="parquet", train=train)
    table, _ = made(name="parquet", train=train, test_fraction=0.25)
    assert counts(table) == {"train": [0] * 3 + [1] * 3, "test": [0, 1]}
    table, _ = made(name="parquet", train=train, test_fraction=0.5, max_train=2)
    assert counts(table) == {"train": [0, 1], "test": [0, 0, 1, 1]}


def test_parts_of_shards_keep_images_and_labels_together(tmp_path, made, monkeypatch):
    """Shards sorted by class, read two rows at a time."""
    monkeypatch.setattr(plugins.load("data", "parquet"), "CHUNK", 2)
    for number, (label, count) in enumerate([("ant", 4), ("bee", 8), ("cat", 12)]):
        shard(tmp_path / f"data/{number}.parquet", range(20 * number, 20 * number + count), [label] * count)
    table, _ = made(name="parquet", train=tmp_path / "data", test_fraction=0.5, max_train=6)
    assert counts(table) == {"train": [0] + [1] * 2 + [2] * 3, "test": [0] * 2 + [1] * 4 + [2] * 6}
    numbers = table["origin"].str.extract(r"(\d)\.parquet:(\d+)").astype(int)
    assert (numbers[0] == table["label"]).all()
    seeds = 20 * numbers[0] + numbers[1]
    assert table["image"].tolist() == [pixels(seed).transpose(2, 0, 1).tobytes() for seed in seeds]
    labels = np.repeat([0, 1, 2], [4, 8, 12])
    chosen = divided(labels, 0.5, 0)
    kept = chosen["train"][stratified(labels[chosen["train"]], 6, 0)]
    assert (np.array([0, 4, 12])[numbers[0]] + numbers[1]).tolist() == [*kept, *chosen["test"]]


def test_attributes_without_a_text_are_refused(tmp_path, made):
    train = shard(tmp_path / "train.parquet", [0, 1], ["ant", "bee"], box=[[1, 2], [3, 4]], image_id=[1, 2])
    test = shard(tmp_path / "test.parquet", [2, 3], ["ant", "bee"], box=[[1, 2], [3, 4]], image_id=[3, 4])
    with pytest.raises(DataError, match=r"column 'box': list.* cannot be kept as a text"):
        made(name="parquet", train=train, test=str(test), attributes=["box"])
    with pytest.raises(tables.TableError, match="cannot have a further column label"):
        made(name="parquet", train=train, test=str(test), attributes=["label"])
    with pytest.raises(DataError, match="no column 'person'; there are image, label, box, image_id"):
        made(name="parquet", train=train, test=str(test), attributes=["person"])


# --- tables of paths ------------------------------------------------------------------------------

ROWS = [
    *(["train/ant/ant0.png", "007", "17", "train"], ["train/bee/bee0.png", "08", "", "train"]),
    *(["val/ant/ant0.png", "007", "18", "test"], ["val/bee/bee0.png", "08", "17", "test"]),
]
HEAD = ["path", "label", "person", "part"]


def listing(path, rows=ROWS, head=HEAD):
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(head, map(list, zip(*rows, strict=True)), strict=True))), path)
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file, "excel-tab" if path.suffix == ".tsv" else "excel").writerows([head, *rows])
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_table_of_paths(folder, made, tmp_path, suffix):
    file = listing(tmp_path / f"list{suffix}")
    table, _ = made(name="table", file=file, root=folder, split="part", attributes=["person"])
    assert table["origin"].tolist() == [row[0] for row in ROWS]
    assert counts(table) == {"train": [0, 1], "test": [0, 1]}
    assert table["person"].tolist() == ["17", "", "18", "17"]
    assert tables.metadata(tmp_path / "dataset.parquet")["classes"] == ["007", "08"], "texts as they stand"
    made(name="table", file=file, root=folder, split="part", classes=["08", "007"])
    assert tables.metadata(tmp_path / "dataset.parquet")["classes"] == ["08", "007"]
    divided_up, _ = made(name="table", file=file, root=folder, test_fraction=0.5, seed=3)
    assert {split: sorted(labels) for split, labels in counts(divided_up).items()} == {"train": [0, 1], "test": [0, 1]}


def changed(row, column, value):
    rows = [list(each) for each in ROWS]
    rows[row][HEAD.index(column)] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(1, "path", "train/ant/ant0.png"), "one path twice, in line 2, line 3"),
        (changed(1, "path", ""), "no path or no label in line 3"),
        (changed(0, "label", ""), "no path or no label in line 2"),
        (changed(3, "path", "/etc/passwd"), "a path not below .* in line 5"),
        (changed(3, "path", "../secret.png"), "a path not below .* in line 5"),
        (changed(2, "part", "val"), "neither train nor test as 'part' in line 4"),
        (changed(2, "path", "val/ant/absent.png"), r"absent\.png: not a readable image .*No such file"),
        ([*ROWS[:2], ROWS[2][:3], ROWS[3]], "not 4 cells, as the line of names has, in line 4"),
        (changed(2, "label", "09"), "no train images in 09"),
    ],
)
def test_a_table_names_the_bad_line(folder, made, tmp_path, rows, message):
    file = listing(tmp_path / "list.csv", rows)
    with pytest.raises(DataError, match=message):
        made(name="table", file=file, root=folder, split="part")


def test_a_table_names_what_is_missing(folder, made, tmp_path):
    file = listing(tmp_path / "list.csv")
    with pytest.raises(DataError, match="needs either a column that holds train or test"):
        made(name="table", file=file, root=folder)
    with pytest.raises(DataError, match="not one column 'image'; there are path, label, person, part"):
        made(name="table", file=file, root=folder, split="part", path="image")
    with pytest.raises(DataError, match="a label that is none of `classes` in line 3, line 5"):
        made(name="table", file=file, root=folder, split="part", classes=["007", "8"])
    with pytest.raises(DataError, match="'class'"):
        made(
            name="table",
            file=listing(file, head=[*HEAD[:2], "class", "part"]),
            root=folder,
            split="part",
            attributes=["class"],
        )


# --- draws ----------------------------------------------------------------------------------------


def test_stratified_draws_keep_the_proportions():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    for seed in range(3):
        chosen = stratified(labels, 20, seed)
        assert np.bincount(labels[chosen]).tolist() == [12, 6, 2]
        assert (np.diff(chosen) > 0).all()
    assert stratified(labels, None, 0).tolist() == stratified(labels, 100, 0).tolist() == list(range(100))
    parts = divided(labels, 0.2, 0)
    assert sorted([*parts["train"], *parts["test"]]) == list(range(100))
    assert parts["test"].tolist() == stratified(labels, 20, 0).tolist()


def test_folders_that_other_systems_leave_are_no_classes(made, tmp_path):
    for place, name in enumerate(("cat", "dog", "@eaDir", "__MACOSX", "cat/@eaDir")):
        for i in range(4):
            put(tmp_path / "photos" / name / f"{i}.png", 10 * place + i)
    found, log = made(name="imagefolder", root=tmp_path / "photos", train=".", test_fraction=0.25)
    assert counts(found) == {"train": [0] * 3 + [1] * 3, "test": [0, 1]}
    assert "8 read, 3 left out: hidden 3" in log


@pytest.mark.parametrize("other", ["cat ", " cat", "cat\u00a0", "cafe\u0301"])
def test_two_spellings_of_a_class_are_refused(other, tmp_path):
    name = "caf\u00e9" if other.startswith("cafe") else "cat"
    with pytest.raises(DataError, match=f"classes '{name}' and .* differ in spaces or Unicode forms only"):
        check_names([name, "dog", other], "data 'table'")


def test_case_may_tell_classes_apart(caplog):
    logging.getLogger("unlearn").propagate = True
    check_names(["a", "A", "b"], "data 'table'")
    assert caplog.messages == ["classes 'a' and 'A' differ in case only"]
