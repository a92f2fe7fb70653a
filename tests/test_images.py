"""From a dataset table and a split to device tensors, their sample and their augmentation."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from unlearn.io import tables
from unlearn.io.catalogue import TABLES
from unlearn.io.schema.dataset import DATASET
from unlearn.io.schema.split import SPLIT
from unlearn.models import images
from unlearn.models.images import ImageSet
from unlearn.training.context import augment


def test_roles_partition_the_dataset(dataset, split):
    found = images.by_role(dataset, split, ("retain", "forget", "test"))
    assert {role: part.ids.tolist() for role, part in found.items()} == {
        "forget": list(range(10)),
        "retain": list(range(10, 40)),
        "test": list(range(40, 56)),
    }
    table = tables.read(DATASET, dataset).to_pydict()
    for part in found.values():
        assert part.pixels.dtype == torch.uint8
        for position, i in enumerate(part.ids.tolist()):
            assert part.labels[position] == table["label"][i]
            assert part.pixels[position].numpy().tobytes() == table["image"][i]


def test_order_of_rows_means_nothing(dataset, split, tmp_path):
    shuffled = {}
    for name, path in (("dataset", dataset), ("split", split)):
        table = tables.read(TABLES[name], path)
        order = np.random.default_rng(len(name)).permutation(len(table))
        shuffled[name] = str(tmp_path / f"shuffled {name}")
        mixed = {column: table[column].take(order).combine_chunks() for column in table.column_names}
        tables.write(TABLES[name], shuffled[name], mixed, {**tables.metadata(path), "table": name})
    one = images.by_role(dataset, split, ("forget",))["forget"]
    other = images.by_role(shuffled["dataset"], shuffled["split"], ("forget",))["forget"]
    assert all(map(torch.equal, vars(one).values(), vars(other).values()))
    assert torch.equal(images.training_set(dataset).pixels, images.training_set(shuffled["dataset"]).pixels)


def test_reads_tables_of_several_chunks(dataset, monkeypatch):
    """Chunks of which the second starts within its buffer."""
    whole, real = images.training_set(dataset).pixels, tables.read

    def chunked(*arguments):
        table = real(*arguments)
        return pa.concat_tables([table.slice(0, 7), table.slice(7)])

    monkeypatch.setattr(tables, "read", chunked)
    assert torch.equal(images.training_set(dataset).pixels, whole)


def test_refuses_a_split_of_another_dataset(dataset, tmp_path):
    path = tmp_path / "split.parquet"
    tables.write(SPLIT, path, {"id": range(55), "role": ["retain"] * 55}, {})
    with pytest.raises(tables.TableError, match=r"split\.parquet: its ids are not those of .*dataset\.parquet"):
        images.by_role(dataset, str(path), ("retain",))


def test_refuses_images_of_another_shape(tmp_path):
    path = tmp_path / "dataset.parquet"
    columns = {"id": [0, 1], "split": ["train"] * 2, "label": [0, 0], "image": [b"1234", b"12345"]}
    columns |= {"origin": ["a", "b"], "digest": [0, 1]}
    tables.write(DATASET, path, columns, {"classes": ["a"], "shape": [1, 2, 2]})
    with pytest.raises(tables.TableError, match="has not the 4 bytes"):
        images.training_set(str(path))


def test_to_float_covers_zero_to_one():
    raw = torch.arange(256, dtype=torch.uint8)
    found = images.to_float(raw)
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.arange(256) / 255)
    assert torch.equal(raw, torch.arange(256)), "raw bytes stay as they are"


def test_a_set_has_the_length_of_its_columns_and_two_make_one(make_images):
    one, other = make_images(5), replace(make_images(3), labels=torch.full((3,), 7))
    both = one + other
    assert [len(found) for found in (one, other, both)] == [5, 3, 8]
    assert both.labels.tolist() == [*one.labels.tolist(), 7, 7, 7]
    for chosen, part in ((slice(0, 5), one), (slice(5, 8), other)):
        assert all(map(torch.equal, vars(both.select(chosen)).values(), vars(part).values()))
    with pytest.raises(FrozenInstanceError):
        one.labels = other.labels


def of_sizes(*sizes):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return ImageSet(torch.arange(len(labels)), torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels)


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ((10, 10), 4, [2, 2]),
        ((30, 10), 4, [3, 1]),
        ((50, 30, 20), 10, [5, 3, 2]),
        ((5, 3, 3), 4, [2, 1, 1]),  # 1.82, 1.09, 1.09
        ((9, 1), 5, [5, 0]),  # 4.5, 0.5: the first of equal fractions
        ((3, 3, 3), 8, [3, 3, 2]),
    ],
)
def test_sample_has_the_classes_proportions(sizes, count, expected):
    labels = images.stratified(of_sizes(*sizes), count, 0).labels
    assert torch.bincount(labels, minlength=len(sizes)).tolist() == expected


def test_sample_is_drawn_by_seed_without_repeats():
    found = images.stratified(of_sizes(40, 40), 20, 0)
    assert torch.equal(found.ids, images.stratified(of_sizes(40, 40), 20, 0).ids)
    assert not torch.equal(found.ids, images.stratified(of_sizes(40, 40), 20, 1).ids)
    assert found.ids.unique().tolist() == found.ids.tolist(), "ascending, so the order is that of the set"


@pytest.mark.parametrize("count", [None, 12, 100])
def test_a_sample_of_all_is_all(make_images, count):
    assert images.stratified(make_images(12), count, 0).ids.tolist() == list(range(100, 112))


@pytest.mark.parametrize("crop", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_against_a_loop_over_samples(crop, flip):
    pixels = torch.randint(1, 256, (40, 2, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = augment(pixels, torch.Generator().manual_seed(1), crop=crop, flip=flip)

    draws = torch.Generator().manual_seed(1)
    dy, dx = torch.randint(2 * crop + 1, (2, 40), generator=draws) if crop else torch.zeros(2, 40, dtype=int)
    mirrored = torch.rand(40, generator=draws) < 0.5 if flip else torch.zeros(40, dtype=bool)
    for sample, image in enumerate(pixels):
        expected = torch.zeros_like(image)
        for y in range(5):
            for x in range(6):
                row, column = y + dy[sample] - crop, x + dx[sample] - crop
                if 0 <= row < 5 and 0 <= column < 6:
                    expected[:, y, 5 - x if mirrored[sample] else x] = image[:, row, column]
        assert torch.equal(found[sample], expected)
    assert len(dy.unique()) == len(dx.unique()) == 2 * crop + 1, "all shifts occur"
    assert not flip or 0 < mirrored.sum() < 40


@pytest.mark.parametrize("channels", [1, 3])
def test_augmented_images_lie_in_the_plain_order(channels):
    """With one channel a transposed tensor counts as contiguous *and* as channels-last, and convolutions
    then run their channels-last kernels: other bits, and with 4 channels a corrupted heap (torch 2.15)."""
    pixels = torch.zeros(5, channels, 8, 8, dtype=torch.uint8)
    found = images.to_float(augment(pixels, torch.Generator().manual_seed(0), crop=1, flip=True))
    assert found.stride() == pixels.stride()


def test_augmentation_leaves_the_images_alone(make_images):
    found = make_images()
    before = found.pixels.clone()
    augment(found.pixels, torch.Generator().manual_seed(0), crop=2, flip=True)
    assert torch.equal(found.pixels, before)
