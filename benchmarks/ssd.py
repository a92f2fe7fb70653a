"""SSD by how it measures importance: weights dampened, UA, RA, TA and distance from exact retraining.

`PYTHONPATH=src python benchmarks/ssd.py --seeds 1000 0 1 2`: on digits, with each architecture and forget set of
config.yaml, the first seed chooses alpha from the tuning grid for each setting, by the mean gap to retraining in UA,
RA, TA and MIA-efficacy, as the stage ``tune`` does; the other seeds are judged at it. Under "by seed" stands the gap
of the first seed, then those of the others.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
import yaml

from unlearn.config.settings import Training
from unlearn.methods import ssd
from unlearn.models import images
from unlearn.models.classifier import Classifier, Spec, create
from unlearn.models.images import ImageSet
from unlearn.stages import predict
from unlearn.stages.dataset import dataset
from unlearn.stages.split import split
from unlearn.stages.tune import PARTS, ROLES, four
from unlearn.training.context import MethodContext
from unlearn.training.loop import fit

CPU, ROOT = torch.device("cpu"), Path(__file__).resolve().parents[1]
KINDS = [("sample", "official", 128), *(("batch", order, size) for size in (128, 8) for order in ("official", "ids"))]


def outcome(net: Classifier, sets: dict[str, ImageSet]) -> dict[str, float]:
    """UA, RA, TA and MIA-efficacy."""
    return four({role: (found.labels.numpy(), predict.logits(net, found, CPU)) for role, found in sets.items()})


def trained(spec: Spec, recipe: Training, found: ImageSet, seed: int) -> Classifier:
    """A model trained on images, as the stages pretrain and unlearn do."""
    context = MethodContext(seed, spec, {"retain": found}, CPU)
    net = context.fresh_model("init")
    fit(net, recipe, context, lambda epoch: context.batches("retain", epoch, recipe.batch_size))
    return net


def judged(original: Classifier, sets: dict[str, ImageSet], target: dict[str, float], kind: tuple) -> dict:
    """By alpha of the grid: the number of weights dampened, the four measures, and their mean gap to the target's."""
    importance, order, size = kind
    settings = ssd.Settings(importance=importance, order=order, batch_size=size)
    context = MethodContext(0, original.spec, {role: sets[role] for role in ssd.DATA_ROLES}, CPU)
    original.requires_grad_(True).eval()
    to_forget, to_all = ssd.importances(original, context, settings)
    found = {}
    for alpha in ssd.TUNING_GRID["alpha"]:
        net, shrunk = create(original.spec, 0), 0
        net.load_state_dict(original.state_dict())
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                own = settings.model_copy(update={"alpha": alpha})
                factor = ssd.dampening(to_forget[name], to_all[name], own)
                parameter.mul_(factor)
                shrunk += int((factor < 1).sum())
        four = outcome(net, sets)
        found[alpha] = {"dampened": shrunk, "gap": sum(abs(four[k] - target[k]) for k in PARTS) / 4, **four}
    return found


def main(seeds: list[int]) -> None:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())["settings"]
    folder = Path(tempfile.mkdtemp())
    dataset(str(folder / "digits"), {"name": "digits"})
    print("| model | forgotten | importance | alpha | weights dampened | UA | RA | TA | mean gap, points | by seed |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|---|")
    for given in config["archs"].values():
        model = {key: given[key] for key in ("model", "args", "stem")}
        model["normalize"] = config["datasets"]["digits"]["normalize"]
        spec, recipe = images.model_spec(str(folder / "digits"), model), Training(**given["train"])
        everything = images.training_set(str(folder / "digits"))
        originals = {seed: trained(spec, recipe, everything, seed) for seed in seeds}
        for forget, how in config["forgets"].items():
            split(str(folder / "digits"), str(folder / forget), forget, how)
            sets = images.by_role(str(folder / "digits"), str(folder / forget), ROLES)
            targets = {seed: outcome(trained(spec, recipe, sets["retain"], seed), sets) for seed in seeds}
            for kind in KINDS:
                runs = {seed: judged(originals[seed], sets, targets[seed], kind) for seed in seeds}
                tried = runs[seeds[0]]
                alpha = min(tried, key=lambda alpha: tried[alpha]["gap"])
                others = [runs[seed][alpha] for seed in seeds[1:]]
                mean = {key: statistics.mean(run[key] for run in others) for key in others[0]}
                label = "sample" if kind[0] == "sample" else f"batch of {kind[2]}, {kind[1]}"
                gaps = " ".join(f"{100 * run['gap']:.1f}" for run in others)
                print(
                    f"| {given['label']} | {forget} | {label} | {alpha:g} | {mean['dampened']:,.0f} "
                    + "".join(f"| {100 * mean[key]:.1f} " for key in ("ua", "ra", "ta", "gap"))
                    + f"| {100 * tried[alpha]['gap']:.1f}; {gaps} |",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 0, 1, 2])
    torch.set_num_threads(1)
    main(parser.parse_args().seeds)
