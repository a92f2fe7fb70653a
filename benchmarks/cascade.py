"""The cascade against full AutoAttack on a study's pretrained models, at the headline radius.

`python benchmarks/cascade.py results 200` after `snakemake all`; one thread, CPU seconds.
"""

import platform
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from unlearn import checkpoint, images, provenance, registry, tables  # noqa: E402
from unlearn.robustness import search  # noqa: E402

ATTACKS = ("pgd", "cascade", "autoattack")


def main(results: str, count: int) -> None:
    """Robust accuracy in percent and CPU seconds per attack; images that cascade and AutoAttack see differently."""
    torch.set_num_threads(1)
    folder = Path(results)
    radii = tables.read("grid", folder / "grid.parquet").to_pandas().query("norm == 'linf' and headline")
    eps = float(radii["eps"].iloc[0])
    chosen = images.stratified(images.test_set(str(folder / "dataset.parquet")), count, 0)
    print(f"torch {torch.__version__}, {platform.machine()}, {provenance.commit()}; n = {len(chosen)}, eps = {eps:g}\n")
    print(
        "| model | clean | "
        + " | ".join(f"{name} | s" for name in ATTACKS)
        + " | only cascade robust | only AA robust |"
    )
    print("|---|" + "---|" * (3 + 2 * len(ATTACKS)))
    for path in sorted(folder.glob("pretrained/*/seed*/model.safetensors")):
        cells, robust = [], {}
        for name in ATTACKS:
            plugin, settings = registry.load("attacks", name), registry.settings("attacks", name, {})
            started = time.process_time()
            found = search(checkpoint.load(path), chosen, [eps], lambda m, e, p=plugin, s=settings: p.build(m, e, s), 0)
            robust[name] = found.eps.isnan()
            cells += [f"{100 * robust[name].double().mean():.1f}", f"{time.process_time() - started:.1f}"]
        clean = 100 * (found.eps != 0).double().mean()
        cascade, full = robust["cascade"], robust["autoattack"]
        differing = f"{int((cascade & ~full).sum())} | {int((full & ~cascade).sum())}"
        print(
            f"| {path.parent.parent.name}, {path.parent.name} | {clean:.1f} | {' | '.join(cells)} | {differing} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
