"""The cascade against full AutoAttack on a study's pretrained models, at the headline radius.

`python benchmarks/cascade.py results/digits-seeds 200` after that study; one thread, CPU seconds.
"""

import platform
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from unlearn import checkpoint, images, provenance, registry, schema, tables  # noqa: E402
from unlearn.robustness import search  # noqa: E402

ATTACKS = {
    "PGD-20": ("pgd", {}),
    "cascade, 3 targets": ("cascade", {"targets": 3}),
    "cascade": ("cascade", {}),
    "AutoAttack": ("autoattack", {}),
}


def main(results: str, count: int) -> None:
    """Robust accuracy in percent and CPU seconds by attack, and the images on which cascade and AutoAttack differ."""
    torch.set_num_threads(1)
    folder = Path(results)
    radii = tables.read(schema.GRID, folder / "grid.parquet").to_pandas().query("norm == 'linf' and headline")
    eps = float(radii["eps"].iloc[0])
    chosen = images.stratified(images.test_set(str(folder / "dataset.parquet")), count, 0)
    print(f"torch {torch.__version__}, {platform.machine()}, {provenance.commit()}; n = {len(chosen)}, eps = {eps:g}\n")
    print(
        "| model | clean | " + " | ".join(f"{label} | s" for label in ATTACKS) + " | only cascade | only AutoAttack |"
    )
    print("|---" * (4 + 2 * len(ATTACKS)) + "|")
    for path in sorted(folder.glob("pretrained/*/seed?/model.safetensors")):
        cells, robust = [], {}
        for label, (name, given) in ATTACKS.items():
            plugin, own = registry.load("attacks", name), registry.settings("attacks", name, given)
            net, started = checkpoint.load(path), time.process_time()
            found = search(net, chosen, [eps], lambda m, e, p=plugin, s=own: p.build(m, e, s), 0)
            robust[label] = found.eps.isnan()
            cells += [f"{100 * robust[label].double().mean():.1f}", f"{time.process_time() - started:.1f}"]
        clean = 100 * (found.eps != 0).double().mean()
        cascade, full = robust["cascade"], robust["AutoAttack"]
        differing = f"{int((full & ~cascade).sum())} | {int((cascade & ~full).sum())}"
        model = f"{path.parent.parent.name}, {path.parent.name}"
        print(f"| {model} | {clean:.1f} | {' | '.join(cells)} | {differing} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
