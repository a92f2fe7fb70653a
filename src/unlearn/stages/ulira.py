"""ulira: how well the U-LiRA attack tells what a method forgot from what its models never saw."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from unlearn.analysis.klom import klom
from unlearn.analysis.ulira import attack
from unlearn.io import failures, tables
from unlearn.io.columns import SHADOWED_KEY
from unlearn.io.failures import RunFailed
from unlearn.io.schema.shadow import SHADOW
from unlearn.io.schema.ulira import ULIRA

log = logging.getLogger("unlearn")


def ulira(shadows: Sequence[str], exact: Sequence[str], out: str, confidence: float) -> None:
    """``shadows``: the shadow tables of one method and scope, ``exact``: those of exact retraining, for KLoM;
    ``confidence``: the level of intervals.

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
    found = pd.concat(frames, ignore_index=True)
    rows = attack(found, confidence)
    retrained = pd.concat([tables.read(SHADOW, path).to_pandas() for path in exact], ignore_index=True)
    identity = {key: found[key].iloc[0] for key in SHADOWED_KEY}
    rows = pd.concat([rows, klom(found, retrained).assign(**identity, low=np.nan, high=np.nan)], ignore_index=True)
    tables.write(ULIRA, out, rows, {"settings": {"confidence": confidence}, "shadows": len(frames)})
