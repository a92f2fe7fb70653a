"""unlearn: one method on one layer scope, exact retraining among them."""

from dataclasses import replace

import torch

from unlearn.config import plugins
from unlearn.io import tables
from unlearn.io.progress import NOTHING, Progress
from unlearn.io.schema.tuning import TUNING
from unlearn.models import checkpoint, images, scopes
from unlearn.models.classifier import Classifier, Spec, create
from unlearn.models.cost_meter import Meter
from unlearn.models.device import prepare
from unlearn.models.recognition import beyond_chance, predictions
from unlearn.models.weights import start
from unlearn.run import Run
from unlearn.training.artifacts import TrainingSettings, starting_model, write
from unlearn.training.context import AccessError, MethodContext


class MethodError(RuntimeError):
    """A method that breaks the rules of methods; the message names its file."""


def unlearn(
    run: Run,
    dataset: str,
    split: str,
    model: str,
    history: str,
    cost: str,
    settings: TrainingSettings,
    device: str,
    original: str | None = None,
    tuning: str | None = None,
    progress: Progress = NOTHING,
) -> None:
    """Run one method on one scope, starting from the ``original`` weights (none for a full retrain),
    with the setting that a ``tuning`` table chose, if there is one."""
    if tuning:
        settings = replace(settings, method=settings.method | chosen(tuning))
    net, context = unlearned(run, dataset, split, original, settings, device, progress)
    known = known_before(context, dataset, split) if settings.init else None
    write(net, context, run, settings, model, history, cost, **({"start": known} if known else {}))


def known_before(context: MethodContext, dataset: str, split: str) -> dict[str, float] | None:
    """Accuracy on the ``n`` forgotten images of the weights that retraining starts from, and the limit of chance; None
    for a head that starts afresh, which knows no class."""
    net = create(context.spec, 0)
    if not start(net, context.init):
        return None
    found = images.by_role(dataset, split, ("forget",))["forget"]
    right = (predictions(net.to(context.device), found) == found.labels).float().mean().item()
    limit = beyond_chance(images.training_set(dataset).labels)
    return {"accuracy": right, "limit": limit, "n": len(found)}


def unlearned(
    run: Run,
    dataset: str,
    split: str,
    original: str | None,
    settings: TrainingSettings,
    device: str | torch.device,
    progress: Progress = NOTHING,
) -> tuple[Classifier, MethodContext]:
    """The unlearned model, and the job that holds its history and cost.

    Raises MethodError for a method that gives another model than it was given, or moves weights outside the scope.
    """
    device = prepare(device)
    method = plugins.load("methods", run.method)
    known = Spec.from_json(checkpoint.metadata(original)["spec"]) if original else None
    seen = images.by_role(dataset, split, method.DATA_ROLES)
    context = MethodContext(
        run.seed,
        known or images.model_spec(dataset, settings.model),
        {role: found.to(device) for role, found in seen.items()},
        device,
        scope=run.scope,
        augment=settings.augment,
        precision=settings.precision,
        init=settings.init,
        progress=progress,
    )
    net = starting_model(context, original)
    own, file = plugins.settings("methods", run.method, settings.method), f"methods/{run.method}.py"
    try:
        with Meter(net, context.device, context.data.values()) as context.meter:
            returned = method.unlearn(net, context, own)
    except AccessError as error:
        raise AccessError(f"{file}: {error}") from error
    if returned is not None:
        raise MethodError(f"{file}: unlearn must change the model it is given, and return nothing")
    if original:
        _check_scope(net, original, run.scope, file)
    return net, context


def _check_scope(net: Classifier, original: str, scope: str, file: str) -> None:
    before, after, inside = checkpoint.state(original), net.state_dict(), scopes.members(net, scope)
    if {name: t.shape for name, t in before.items()} != {name: t.shape for name, t in after.items()}:
        raise MethodError(f"{file}: left a model of another structure")
    outside = [name for name in before if name not in inside]
    if moved := [name for name in outside if not torch.equal(before[name], after[name].cpu())]:
        raise MethodError(f"{file}: moved {moved[0]}, which is outside scope {scope}")


def chosen(tuning: str) -> dict[str, float]:
    """Parameter → value that a tuning table chose."""
    table = tables.read(TUNING, tuning).to_pandas()
    row = table[table["chosen"]].iloc[0]
    return {row["parameter"]: float(row["value"])}
