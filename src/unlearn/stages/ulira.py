"""ulira: how well the U-LiRA attack tells what a method forgot from what its models never saw."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from unlearn import schema, tables
from unlearn.analysis.ulira import attack
from unlearn.provenance import record


def ulira(shadows: Sequence[str], out: str, settings: dict[str, Any]) -> None:
    """``shadows``: the shadow tables of one method and scope; ``settings``: those of the analysis."""
    frame = pd.concat([tables.read(schema.SHADOW, path).to_pandas() for path in shadows], ignore_index=True)
    found = attack(frame, settings["confidence"])
    tables.write(schema.ULIRA, out, found, record(settings, shadows=len(shadows)))
