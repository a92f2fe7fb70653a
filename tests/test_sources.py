"""Sources: what settings name and no job makes. Names, sizes and times tell whether to read; contents decide."""

import hashlib
import os
import shutil

import pytest

from unlearn.provenance import sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of images by class, as the settings name it."""
    monkeypatch.chdir(tmp_path)
    for name in ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "val/cat/3.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "images"


def touched(path):
    os.utime(path, ns=(0, os.stat(path).st_mtime_ns + 1))


def replaced(path):
    """Another content of the same size."""
    path.write_bytes(path.read_bytes()[::-1])
    touched(path)


CHANGES = {  # what was done → whether the listing is another, and whether the content is
    "nothing": (lambda images: None, False, False),
    "a file of another time": (lambda images: touched(images / "train/cat/1.png"), True, False),
    "a file of another content": (lambda images: replaced(images / "train/cat/1.png"), True, True),
    "a file more": (lambda images: (images / "train/cat/9.png").write_bytes(b""), True, True),
    "a file less": (lambda images: (images / "train/cat/2.png").unlink(), True, True),
    "a file renamed": (lambda images: (images / "train/cat/2.png").rename(images / "train/cat/4.png"), True, True),
    "a file moved": (lambda images: (images / "train/cat/2.png").rename(images / "train/dog/2.png"), True, True),
    "a class less": (lambda images: shutil.rmtree(images / "train/dog"), True, True),
    "an empty class": (lambda images: (images / "train/eel").mkdir(), True, True),
    "all files less": (lambda images: [path.unlink() for path in images.rglob("*.png")], True, True),
    "a copy": (
        lambda images: (shutil.copytree(images, "new"), shutil.rmtree(images), os.rename("new", images)),
        False,
        False,
    ),
    "a copy without times": (
        lambda images: (
            shutil.copytree(images, "new", copy_function=shutil.copyfile),
            shutil.rmtree(images),
            os.rename("new", images),
        ),
        True,
        False,
    ),
    "a class that is a link": (
        lambda images: (
            (images / "train/dog").rename(images.parent / "dog")
            and (images / "train/dog").symlink_to(images.parent / "dog")
        ),
        False,
        False,
    ),
    "a hidden file": (lambda images: (images / "train/.DS_Store").write_bytes(b"x"), False, False),
    "a hidden folder": (lambda images: ((images / ".cache").mkdir(), (images / ".cache/x").touch()), False, False),
    "a link that leads nowhere": (lambda images: (images / "train/cat/8.png").symlink_to("nowhere"), False, False),
    "a link to a folder above": (lambda images: (images / "train/cat/up").symlink_to(images), False, False),
    "a pipe": (lambda images: os.mkfifo(images / "train/cat/pipe"), False, False),
}


@pytest.mark.parametrize(("change", "listed", "content"), CHANGES.values(), ids=CHANGES)
def test_what_counts_as_a_change(folder, change, listed, content):
    before = sources.state("images")
    assert before["files"] == 4
    change(folder)
    after = sources.state("images")
    assert (after["listing"] != before["listing"]) == listed
    assert (after["sha256"] != before["sha256"]) == content
    assert sources.listing("images") == after["listing"]


def test_two_files_that_swap_their_contents_are_another_content(folder):
    before = sources.state("images")["sha256"]
    one, two = folder / "train/cat/1.png", folder / "train/dog/1.png"
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    assert sources.state("images")["sha256"] != before


def test_where_a_folder_lies_means_nothing(folder):
    before = sources.state("images")
    assert sources.state(folder) == sources.state("images/") == sources.state("./images") == before
    folder.rename("others")
    assert sources.state("others") == before


def test_one_folder_under_two_names_counts_twice(folder):
    (folder / "train/puma").symlink_to(folder / "train/cat")
    before = sources.state("images")
    assert before["files"] == 6
    (folder / "train/puma").unlink()
    assert sources.state("images")["sha256"] != before["sha256"]


def test_a_file_is_a_source_too(folder):
    path = folder / "train/cat/1.png"
    before = sources.state(path)
    assert (before["sha256"], before["files"]) == (hashlib.sha256(path.read_bytes()).hexdigest(), 1)
    touched(path)
    assert sources.state(path)["sha256"] == before["sha256"]
    assert sources.listing(path) != before["listing"]


def test_what_is_not_there_is_like_nothing_else(folder):
    nothing = sources.state("nowhere")
    assert (nothing["files"], nothing["listing"]) == (0, sources.listing("nowhere"))
    (folder / "empty").mkdir()
    assert sources.state("images/empty")["sha256"] != nothing["sha256"]


def test_a_pattern_stands_for_what_it_matches(folder):
    pattern = "images/*/cat/*.png"
    before = sources.state(pattern)
    assert (before["files"], before["listing"]) == (3, sources.listing(pattern))
    assert sources.there(pattern)
    (folder / "train/dog/1.png").write_bytes(b"other")
    assert sources.state(pattern) == before
    replaced(folder / "train/cat/1.png")
    changed = sources.state(pattern)
    assert changed["sha256"] != before["sha256"]
    assert changed["listing"] != before["listing"]
    (folder / "val/cat/9.png").write_bytes(b"")
    assert sources.state(pattern)["files"] == 4
    assert not sources.there("images/*/cow/*.png")
    assert sources.state("images/*/cow/*.png")["files"] == 0


def test_a_listing_reads_no_file(folder, monkeypatch):
    monkeypatch.setattr(sources, "sha256", None)
    sources.listing("images")
