"""The cascade against full AutoAttack on a study's pretrained models, at the headline radius.

`python benchmarks/cascade.py results/digits-seeds 200` after that study: one thread, CPU seconds. On a GPU, with
`cuda` as a third argument, seconds.
"""

import platform
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from unlearn.config import plugins  # noqa: E402
from unlearn.evaluation.attack_search import search  # noqa: E402
from unlearn.io import metadata, tables  # noqa: E402
from unlearn.io.schema.radii import RADII  # noqa: E402
from unlearn.models import checkpoint, images  # noqa: E402

ATTACKS = {
    "PGD-20": ("pgd", {}),
    "cascade, 3 targets": ("cascade", {"targets": 3}),
    "cascade": ("cascade", {}),
    "AutoAttack": ("autoattack", {}),
}


def main(results: str, count: int, device: str = "cpu") -> None:
    """Robust accuracy in percent and seconds by attack, and the images on which cascade and AutoAttack differ."""
    torch.set_num_threads(1)
    folder = Path(results)
    radii = tables.read(RADII, folder / "radii.parquet").to_pandas().query("threat_norm == 'linf' and headline")
    eps = float(radii["eps"].iloc[0])
    chosen = images.stratified(images.test_set(str(folder / "dataset.parquet")), count, 0)
    chosen = chosen.to(device)
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    clock = time.process_time if device == "cpu" else time.perf_counter
    machine = platform.machine() if device == "cpu" else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {machine}, {metadata.commit()}; n = {len(chosen)}, eps = {eps:g}\n")
    print(
        "| model | clean | " + " | ".join(f"{label} | s" for label in ATTACKS) + " | only cascade | only AutoAttack |"
    )
    print("|---" * (4 + 2 * len(ATTACKS)) + "|")
    for path in sorted(folder.glob("pretrained/*/seed?/model.safetensors")):
        model, cells, robust = f"{path.parent.parent.name}, {path.parent.name}", [], {}
        for label, (name, given) in ATTACKS.items():
            plugin, own = plugins.load("attacks", name), plugins.settings("attacks", name, given)
            net, started = checkpoint.load(path, device), clock()
            found = search(net, chosen, [eps], lambda m, e, p=plugin, s=own: p.build(m, e, s), 0)
            robust[label] = found.eps.isnan()
            cells += [f"{100 * robust[label].double().mean():.1f}", f"{clock() - started:.1f}"]
            print(f"{model}, {label}: {' in '.join(cells[-2:])} s", file=sys.stderr)  # hours on a CPU
        clean = 100 * (found.eps != 0).double().mean()
        cascade, full = robust["cascade"], robust["AutoAttack"]
        differing = f"{int((full & ~cascade).sum())} | {int((cascade & ~full).sum())}"
        print(f"| {model} | {clean:.1f} | {' | '.join(cells)} | {differing} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
