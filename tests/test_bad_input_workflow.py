"""Bad input through Snakemake itself: exit code 1, one line that says why, no traceback, nothing touched."""

import pytest
import yaml
from conftest import ROOT
from tiny import TINY, Copy

pytestmark = pytest.mark.slow

FINISHED = {
    "results/digits/tables/main.md": "| method |",
    "results/digits/figures/cost.pdf": "%PDF",
    "results/digits/dataset.parquet": "PAR1",
}


@pytest.fixture
def copy(tmp_path):
    """The project with results that look finished."""
    found = Copy(tmp_path, TINY)
    for path, text in FINISHED.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return found


def exchange(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


SEEDS = next(
    n for n, line in enumerate((ROOT / "config.yaml").read_text().splitlines(), 1) if line.startswith("seeds:")
)
CASES = {
    "broken YAML": (
        lambda root: exchange(root / "config.yaml", "seeds: [0]", "seeds: [0"),
        f"config.yaml, line {SEEDS + 1}: ",
    ),
    "a key twice": (
        lambda root: (root / "tiny.yaml").write_text(TINY + "seeds: [1]\n"),
        "tiny.yaml, line 22: key 'seeds' stands twice, first in line 2",
    ),
    "a misspelt key": (
        lambda root: exchange(root / "tiny.yaml", "  follow: 0", "  folow: 0"),
        "tiny.yaml: settings.folow: unknown key; known are datasets, ",
    ),
    "an unknown method": (
        lambda root: exchange(root / "tiny.yaml", "salun]", "salunn]"),
        "tiny.yaml: methods: no method named 'salunn'; known are ",
    ),
    "a syntax error": (
        lambda root: exchange(root / "src/unlearn/methods/salun.py", "def unlearn(", "def unlearn(("),
        "methods/salun.py, line ",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_stops_before_the_first_job(copy, case):
    harm, line = case
    harm(copy.root)
    done = copy.snakemake("all")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (said,) = (text for text in done.stderr.splitlines() if line in text)
    assert said.startswith(("methods/", "config.yaml", str(copy.root)))
    assert {path: (copy.root / path).read_text() for path in FINISHED} == FINISHED
    assert not (copy.root / "logs").exists()


def test_a_study_of_any_name_has_a_folder_of_its_own(copy):
    """Also one that is named like a folder of results."""
    done = copy.snakemake("--config", "study=runs", "--summary", "all")
    files = [line.split("\t")[0] for line in done.stderr.splitlines() + done.stdout.splitlines() if "\t" in line][1:]
    assert len(files) > 60
    assert all(file.startswith("results/runs/") for file in files)


def test_snakemake_itself_reads_what_the_command_line_names(copy):
    """Its message names no file where an overlay is broken, and has a traceback where there is none."""
    exchange(copy.root / "tiny.yaml", "seeds: [0]", "seeds: [0")
    done = copy.snakemake("all")
    assert done.returncode == 1
    assert "Config file is not valid JSON or YAML" in done.stderr
    assert "Traceback" not in done.stderr
    (copy.root / "tiny.yaml").unlink()
    done = copy.snakemake("all")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "FileNotFoundError: [Errno 2] No such file or directory: 'tiny.yaml'"
    assert {path: (copy.root / path).read_text() for path in FINISHED} == FINISHED


def test_an_undecodable_image_stops_its_job(copy):
    for path in ("train/ant", "train/bee", "val/ant"):
        (copy.root / "images" / path).mkdir(parents=True)
        (copy.root / "images" / path / "0.png").write_bytes(b"no image")
    study = yaml.safe_load(TINY)
    study["settings"]["datasets"]["digits"]["source"] = {"name": "imagefolder", "root": "images"}
    (copy.root / "tiny.yaml").write_text(yaml.safe_dump(study | {"study": "other"}))
    exchange(copy.root / "config.yaml", "source: {name: digits, test_fraction: 0.25, seed: 0}", "source: {}")
    done = copy.snakemake("results/other/dataset.parquet")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (said,) = (line for line in done.stderr.splitlines() if "DataError" in line)
    assert "images/train/ant/0.png: not a readable image" in said
    assert said.endswith("(logs/other/dataset.log)")
    *listed, last = (copy.root / "logs/other/dataset.log").read_text().splitlines()
    assert [line.split(": ")[0].split()[-1] for line in listed] == [
        f"images/{path}/0.png" for path in ("train/ant", "train/bee", "val/ant")
    ]
    assert "DataError" in last
    assert not (copy.root / "results/other/dataset.parquet").exists()
    assert {path: (copy.root / path).read_text() for path in FINISHED} == FINISHED
