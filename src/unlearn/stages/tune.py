"""tune: a method's settings for an architecture and forget set, by distance to exact retraining.

Every method gets the same number of tries, the grid in its file. They are judged on a seed that no
result is reported from: choosing on a reported seed would flatter the methods with most to tune.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from unlearn.io import tables
from unlearn.io.failures import RunFailed
from unlearn.io.progress import NOTHING, Progress
from unlearn.io.schema.predictions import PREDICTIONS
from unlearn.io.schema.tuning import TUNING
from unlearn.metrics.accuracy import accuracy
from unlearn.metrics.mia_efficacy import confidence, efficacy
from unlearn.models import images
from unlearn.models.device import prepare
from unlearn.run import Run
from unlearn.stages import predict
from unlearn.stages.unlearn import unlearned
from unlearn.training.artifacts import TrainingSettings

log = logging.getLogger("unlearn")

PARTS = ("ua", "ra", "ta", "mia_efficacy")
ROLES = ("retain", "forget", "test")


@dataclass(frozen=True, kw_only=True)
class TuningSettings(TrainingSettings):
    """``tuning_grid``: a parameter of the method and the values to try."""

    tuning_grid: dict[str, Sequence[float]]


class TuningError(RuntimeError):
    """No setting of the grid gave a usable model."""


def tune(
    run: Run,
    dataset: str,
    split: str,
    original: str,
    reference: str,
    out: str,
    settings: TuningSettings,
    device: str,
    progress: Progress = NOTHING,
) -> None:
    """``run``: arch, forget, method, scope and the tuning seed; ``reference``: the predictions of
    exact retraining with that seed; ``settings``: those of a run, with the grid.

    Raises TuningError if every try diverges.
    """
    device = prepare(device)
    stored = tables.read(PREDICTIONS, reference)
    roles, labels = stored["role"].to_numpy(zero_copy_only=False), stored["label"].to_numpy()
    logits = tables.matrix(stored["logits"])
    target = four({role: (labels[roles == role], logits[roles == role]) for role in ROLES})
    rows = list(tries(run, dataset, split, original, settings, device, target, progress))
    distances = [row["distance"] for row in rows if row["distance"] is not None]
    if not distances:
        raise TuningError(f"{run.method} on {run.arch}: every setting of the grid diverged ({rows[-1]['failure']})")
    best = next(i for i, row in enumerate(rows) if row["distance"] == min(distances))
    columns = {key: [row[key] for row in rows] for key in rows[0]} | {"chosen": [i == best for i in range(len(rows))]}
    tables.write(TUNING, out, columns, {"settings": asdict(settings), "device": str(device)}, run)


def tries(
    run: Run,
    dataset: str,
    split: str,
    original: str,
    settings: TuningSettings,
    device: str,
    target: dict,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """A row of the tuning table per setting of the grid, in its order."""
    sets = images.by_role(dataset, split, ROLES)
    for parameter, values in settings.tuning_grid.items():
        for value in values:
            phase = f"{parameter}-{value:g}"
            if kept := progress.load(phase):
                yield kept["row"]
                continue
            found: dict[str, Any] = dict.fromkeys((*PARTS, "distance", "failure"))
            tried = replace(settings, method=settings.method | {parameter: value})
            try:
                with progress.part(phase):
                    net = unlearned(run, dataset, split, original, tried, device, progress)[0]
                outputs = {
                    role: (part.labels.numpy(), predict.logits(net, part, device)) for role, part in sets.items()
                }
                found |= four(outputs)
                found["distance"] = sum(abs(found[part] - target[part]) for part in PARTS) / len(PARTS)
            except RunFailed as error:  # diverged, or left logits that are not finite
                found["failure"] = str(error)
            log.info("%s %g: distance %s", parameter, value, found["failure"] or f"{found['distance']:.4f}")
            row = {"parameter": parameter, "value": value, **found}
            progress.save(phase, {"row": row})
            yield row


def four(outputs: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """UA, RA, TA and MIA-efficacy from (labels [N], logits [N, C]) by role."""
    return {
        "ua": 1 - accuracy(*outputs["forget"]),
        "ra": accuracy(*outputs["retain"]),
        "ta": accuracy(*outputs["test"]),
        "mia_efficacy": efficacy(**{role: confidence(*found) for role, found in outputs.items()}),
    }
