"""A run that fails for a reason of its own, such as training that diverges, is a result: its files say why.

Whatever is made of such a file fails in the same way, up to the tables of the whole study, which show
the hole and the reason. Exact retraining and pretraining are no such runs: without them a study means nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unlearn.io import files
from unlearn.run import CONTROLS, PRETRAINING

KEY = "failed"


class RunFailed(RuntimeError):
    """Why a run has no result; the message is for a reader of the study."""


def tolerable(arguments: Mapping[str, Any]) -> bool:
    """Whether the study can do without what a stage with these arguments makes."""
    run = arguments.get("run")
    return run is not None and run["method"] not in (*CONTROLS, PRETRAINING)


def write(path: str | Path, run: Mapping[str, Any], reason: str) -> None:
    """Write a result of a run that says why there is none, as the kind of file that its name promises."""
    path, reason = Path(path), " ".join(reason.split())
    with files.replacing(path) as part:
        if path.suffix == ".safetensors":
            from safetensors.numpy import save_file

            save_file({}, part, metadata={KEY: reason})
        else:
            metadata = {b"unlearn": json.dumps({KEY: reason, "run": dict(run)})}
            pq.write_table(pa.table({}).replace_schema_metadata(metadata), part)


def check(metadata: Mapping[str, Any]) -> None:
    """Raise RunFailed if a file with this metadata says why there is no result."""
    if KEY in metadata:
        raise RunFailed(metadata[KEY])
