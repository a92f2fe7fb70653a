"""Time and memory of CF by scope, with and without the stored frozen prefix, relative to scope "all".

Runs side by side in one process, interleaved, one thread: `python benchmarks/frozen_prefix.py`.
"""

import platform
import statistics
import sys
import tempfile
from pathlib import Path

import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from unlearn import images, provenance, registry  # noqa: E402
from unlearn.cost import Meter  # noqa: E402
from unlearn.job import Job  # noqa: E402
from unlearn.stages.dataset import dataset  # noqa: E402
from unlearn.stages.train import model_spec  # noqa: E402

SCOPES = ("first", "intermediate", "last", "intermediate+last", "all")
REPEATS = 3


def main() -> None:
    """Print median ratios over the repeats, and their range."""
    torch.set_num_threads(1)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    data, archs = config["settings"]["datasets"]["digits"], config["settings"]["archs"]
    folder = Path(tempfile.mkdtemp())
    dataset(str(folder / "dataset.parquet"), data["source"])
    retain = {"retain": images.training_set(str(folder / "dataset.parquet"))}
    cf = registry.load("methods", "cf")
    print(f"torch {torch.__version__}, {platform.machine()}, {provenance.commit()}")
    for name, arch in archs.items():
        model = {key: arch[key] for key in ("model", "args", "stem")} | {"normalize": data["normalize"]}
        spec = model_spec(str(folder / "dataset.parquet"), model)
        found: dict[tuple[str, bool], list[tuple[float, int]]] = {}
        for _ in range(REPEATS):
            for scope in SCOPES:
                for stored in (True, False):
                    job = Job(0, spec, retain, torch.device("cpu"), scope, stored_prefix=2.0 * stored)
                    net = job.fresh_model()
                    with Meter(net, job.device) as job.meter:
                        cf.unlearn(net, job, registry.settings("methods", "cf", arch["methods"]["cf"]))
                    found.setdefault((scope, stored), []).append((job.meter.cpu_seconds, job.meter.peak_memory))
        base = found["all", False]
        print(f"\n| {name}: scope | time, run in full | time, prefix stored | memory, in full | memory, stored |")
        print("|---|---|---|---|---|")
        for scope in SCOPES:
            cells = []
            for part in (0, 1):
                for stored in (False, True):
                    ratios = [a[part] / b[part] for a, b in zip(found[scope, stored], base, strict=True)]
                    cells.append(f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")
            print(f"| {scope} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
