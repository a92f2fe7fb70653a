"""A copy of the project with a study of its own in it, for tests and benchmarks to run and to spoil."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "config.yaml", "workflow", "src", "profiles", "environment.yml")
OVERLAY = "tiny.yaml"


def copy(root: Path, study: str) -> None:
    """Copy what a run needs into a folder; ``study`` is the text of its overlay."""
    root.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, root / part, dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / part, root / part)
    (root / OVERLAY).write_text(study)


def environment() -> dict[str, str]:
    """The environment of a command that imports the copy's sources and not the original's."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
