"""What jobs ask of a cluster (profiles/slurm). On one machine only `gpu` counts: `--resources gpu=1`."""

# Only `device: cuda` reserves GPUs: with `auto` nobody knows before a job runs.
GPUS = int(STUDY.config["device"] == "cuda")
BASE_MB = 3000  # Snakemake twice, torch and its libraries


# Seconds each, and as a SLURM job each costs ten. `dataset` is here because compute nodes often cannot download.
localrules:
    dataset,
    split,
    shadow_split,
    collect,
    gate,
    figure,
    table,


def cluster(name):
    """The cluster's name for something, from its profile's default-resources; None if there is none."""
    found = workflow.resource_settings.default_resources or {}
    return found[name].raw if name in found else None


def gpu_names():
    """How this cluster is asked for a GPU; nothing where none is needed."""
    if not GPUS:
        return {}
    if gres := cluster("gpu_gres"):
        return {"gres": gres, "slurm_partition": cluster("gpu_partition")}
    named = {
        "slurm_partition": cluster("gpu_partition"),
        "gpu_model": cluster("gpu_type"),
    }
    return {"gpu": GPUS, **{key: name for key, name in named.items() if name}}


def asked(amount, attempt, most):
    """What a job asks for, of minutes or of MB. Each further attempt gets more, but for what the cluster's ``most``
    allows: a job that asks for more would wait for ever, or be refused."""
    return min(amount * attempt, int(cluster(most) or amount * attempt))


def cpu(minutes, mem_mb=2000):
    """Resources of a job on tables alone."""
    return {
        "runtime": lambda wildcards, attempt: asked(minutes, attempt, "longest"),
        "mem_mb": lambda wildcards, attempt: asked(mem_mb, attempt, "largest"),
    }


def megabytes(files):
    """Size of files. Snakemake's own `input.size_mb` starts an event loop for each job: planning 336 runs takes 23 CPU
    seconds with it and 17 to 19 without."""
    return sum(os.path.getsize(file) for file in files) // 2**20


def model(minutes):
    """Resources of a job that runs a model, for a number of minutes or a function of the wildcards."""
    needed = minutes if callable(minutes) else lambda wildcards: minutes
    return {
        "runtime": lambda wildcards, attempt: asked(
            needed(wildcards), attempt, "longest"
        ),
        "mem_mb": lambda wildcards, input, attempt: asked(
            BASE_MB + 4 * megabytes(input), attempt, "largest"
        ),
        **gpu_names(),
    }


def minutes_of(settings):
    """Minutes for a job with these settings: two an epoch suit ResNet-50 on CIFAR-10 and a GPU."""
    return 30 + 2 * settings["method"].get("epochs", 0)


def training_minutes(wildcards):
    return minutes_of(STUDY.training_settings(wildcards.arch))


def method_minutes(wildcards):
    return minutes_of(STUDY.method_settings(wildcards.arch, wildcards.method))


def tuning_minutes(wildcards):
    settings = STUDY.tuning_settings(wildcards.arch, wildcards.method)
    return minutes_of(settings) * sum(map(len, settings["tuning_grid"].values()))
