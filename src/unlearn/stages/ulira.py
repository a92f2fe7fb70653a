"""ulira: how well the U-LiRA attack tells what a method forgot from what its models never saw."""

import logging
from collections.abc import Sequence

import pandas as pd

from unlearn.analysis.ulira import attack
from unlearn.io import failures, tables
from unlearn.io.failures import RunFailed
from unlearn.io.schema.shadow import SHADOW
from unlearn.io.schema.ulira import ULIRA

log = logging.getLogger("unlearn")


def ulira(shadows: Sequence[str], out: str, confidence: float) -> None:
    """``shadows``: the shadow tables of one method and scope; ``confidence``: the level of intervals.

    Shadows that failed are left out; if all did, so is the result.
    """
    frames, reasons = [], []
    for path in shadows:
        try:
            frames.append(tables.read(SHADOW, path).to_pandas())
        except RunFailed as error:
            reasons.append(str(error))
    if reasons:
        log.warning("%s: %d of %d shadows failed: %s", out, len(reasons), len(shadows), reasons[0])
    if not frames:
        failures.write(out, {}, reasons[0])
        return
    rows = attack(pd.concat(frames, ignore_index=True), confidence)
    tables.write(ULIRA, out, rows, {"settings": {"confidence": confidence}, "shadows": len(frames)})
