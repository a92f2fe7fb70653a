"""The workflow on a real SLURM, and what becomes of it when the cluster does what clusters do."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import slurm
import torch
from kills import differences, same_weights
from slurm import Submitted, until
from tiny import Copy

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]

STUDY = """
seeds: [0]
archs: [net]
methods: [retrain]
scopes: [all]
attacks: [pgd]
figures: [fairness_gap]
device: cpu
checkpoint_seconds: 0.0         # after every step
settings:
  archs:
    net:
      label: tiny
      model: resnet18
      args: {layers: [1, 1, 1, 1], channels: [8, 8, 16, 16]}
      stem: cifar
      train: {epochs: 3, lr: 0.05, batch_size: 64}
      methods: {}
  attacks: {pgd: {steps: 3}}
  follow: 0
  samples: {test: 40, retain: 20, forget: 20}
  analysis: {resamples: 100}
"""
MODELS = [f"results/digits/pretrained/net/seed{seed}/model.safetensors" for seed in range(4)]
RETRAINED = "results/digits/runs/net/random10/retrain-all/seed0/model.safetensors"
SECONDS = 400  # for Snakemake to end


@pytest.fixture(scope="module")
def cluster():
    with slurm.cluster() as found:
        yield found


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Copy:
    """The study of one seed, and the pretrained models of the others, made without a cluster."""
    copy = Copy(tmp_path_factory.mktemp("local"), STUDY)
    copy.run("all", *MODELS)
    return copy


@pytest.fixture
def submitted(tmp_path, cluster):
    """``submitted(study)``: a copy that submits to the cluster; nothing of it runs any more afterwards."""
    copies = []

    def make(study: str) -> Submitted:
        copies.append(Submitted(tmp_path / str(len(copies)), study, cluster))
        return copies[-1]

    yield make
    for copy in copies:
        copy.close()


def assert_same(one: Copy, other: Copy, *models: str) -> None:
    for model in models:
        assert same_weights(one.root / model, other.root / model), model


def leftovers(copy: Copy) -> list[Path]:
    return [path for path in copy.root.rglob(".made/*") if path.suffix in (".part", ".progress", ".lock")]


def test_study_is_that_of_one_machine(submitted, local):
    """With the small jobs of both runs in one job of SLURM's, which asks for no more than one of them."""
    copy = submitted(STUDY)
    packed = ["--groups", "predict=look", "probe=look", "--group-components", "look=8", "--cores", "1"]
    done = copy.snakemake("all", *packed)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = local.root / "results/digits"
    others = [str(Path(model).parent.relative_to("results/digits")) for model in MODELS[1:]]
    found = differences(reference, copy.root / "results/digits")
    assert [difference for difference in found if not any(other in difference for other in others)] == []
    jobs = copy.jobs()
    assert {job["Partition"] for job in jobs} == {"cpu"}
    (group,) = (job for job in jobs if "look" in job["Comment"])
    assert (group["NumCPUs"], group["MinMemoryNode"], group["TimeLimit"]) == ("1", "3000M", "02:00:00")
    assert not any("predict_wildcards" in job["Comment"] or "probe_wildcards" in job["Comment"] for job in jobs)
    assert copy.planned("all") == set()


def pretraining(copy: Submitted) -> dict[str, list[dict[str, str]]]:
    """Model → the jobs that were to make it, in order of submission."""
    found = {model: [] for model in MODELS}
    for job in copy.jobs():
        seed = job["Comment"].removeprefix("rule_pretrain_wildcards_net_")
        found[f"results/digits/pretrained/net/seed{seed}/model.safetensors"].append(job)
    return found


def log_of(copy: Submitted, model: str) -> str:
    """What the last job that was to make a model has logged."""
    folder, logs = Path(model).parent.relative_to("results/digits"), copy.root / "logs/digits"
    pretraining = logs / folder.with_suffix(".log")
    training = logs / folder.relative_to(folder.parts[0]) / "unlearn.log"
    return "".join(log.read_text() for log in (pretraining, training) if log.exists())


def waits(copy: Submitted, model: str) -> bool:
    """Whether a job waits for another that makes the same model."""
    return "another process is making this" in log_of(copy, model)


def resumed(copy: Submitted, model: str) -> bool:
    """Whether a model's last job went on from what one before had kept."""
    return "resumed in epoch" in log_of(copy, model)


def ended(copy: Submitted, running: subprocess.Popen) -> int:
    """Exit status of Snakemake, which must not hang."""
    try:
        return running.wait(SECONDS)
    except subprocess.TimeoutExpired:
        running.kill()
        raise AssertionError(f"no end within {SECONDS} s: {copy.output}") from None


def test_what_the_cluster_takes_away_is_made_again(submitted, local, cluster):
    """The controller restarts; one job is requeued, one cancelled, one preempted, one is on a node that is lost."""
    copy = submitted(STUDY)
    running = copy.start(*MODELS)
    held = {model: copy.hold(model) for model in MODELS}
    first = {model: jobs[0] for model, jobs in pretraining(copy).items()}
    on = {node: [model for model in MODELS if first[model]["NodeList"] == node] for node in slurm.NODES}
    (requeued, cancelled), (lost, preempted) = (on[node] for node in slurm.NODES)
    number = {model: first[model]["JobId"] for model in MODELS}

    cluster.stop_controller()
    cluster.start_controller()
    assert [job["JobState"] for jobs in pretraining(copy).values() for job in jobs] == ["RUNNING"] * 4

    cluster.call("scancel", number[cancelled])
    cluster.call("scontrol", "requeue", number[requeued])
    urgent = cluster.urgent(slurm.NODES[1])
    until(lambda: cluster.job(urgent)["JobState"] == "RUNNING", "the urgent job")
    if cluster.job(number[lost])["JobState"] != "RUNNING":
        lost, preempted = preempted, lost
    with cluster.lost(slurm.NODES[1]):
        cluster.start_soon(number[requeued])
        cluster.start_soon(number[lost])
        if slurm.cgroups():  # the training got no SIGTERM, so SLURM found it running and queued it again
            cluster.start_soon(number[preempted])
        until(lambda: waits(copy, lost), f"{lost}: the second job waits", 150)
        os.kill(held[lost], signal.SIGCONT)
        assert ended(copy, running) == 0, copy.output

    jobs = pretraining(copy)
    assert [job["Restarts"] for job in jobs[requeued]] == ["1"]
    assert [job["Restarts"] for job in jobs[lost]] == ["1"]
    assert [job["JobState"] for job in jobs[cancelled]] == ["CANCELLED", "COMPLETED"]
    assert [job["Restarts"] for job in jobs[preempted]] == (["1"] if slurm.cgroups() else ["0", "0"])
    assert all(resumed(copy, model) for model in (requeued, cancelled, preempted))
    assert_same(local, copy, *MODELS)
    assert leftovers(copy) == []


def test_killed_snakemake_is_started_again_and_nobody_else_writes(submitted, local):
    copy = submitted(STUDY)
    running = copy.start(MODELS[0])
    first = copy.hold(MODELS[0])
    running.kill()
    running.wait()
    assert "--unlock" in copy.snakemake(MODELS[0]).stderr
    copy.run("--unlock")
    running = copy.start(MODELS[0])
    until(lambda: waits(copy, MODELS[0]), "the second job waits", 150)
    assert not (copy.root / MODELS[0]).exists()
    os.kill(first, signal.SIGCONT)
    assert ended(copy, running) == 0, copy.output
    assert [job["JobState"] for job in pretraining(copy)[MODELS[0]]] == ["COMPLETED", "COMPLETED"]
    assert_same(local, copy, MODELS[0])
    assert leftovers(copy) == []


def test_job_past_its_time_or_memory_gets_more_and_goes_on(submitted, local, cluster):
    """As much as the cluster gives."""
    copy = submitted(STUDY)
    copy.name("largest: 5000")
    copy.name("longest: 50")
    running = copy.start(MODELS[0], RETRAINED, "--set-resources", "pretrain:mem_mb=400*attempt**3")
    copy.hold(RETRAINED)
    late = next(job["JobId"] for job in copy.jobs() if job["Comment"].startswith("rule_retrain"))
    cluster.call("scontrol", "update", f"JobId={late}", "TimeLimit=1")
    assert ended(copy, running) == 0, copy.output
    memory = [job for job in copy.jobs() if job["Comment"].startswith("rule_pretrain")]
    assert [job["JobState"] for job in memory] == ["FAILED", "COMPLETED"]
    assert [job["MinMemoryNode"] for job in memory] == ["400M", "3200M"]
    assert ("oom-kill" if slurm.cgroups() else "exceeded memory limit") in Path(memory[0]["StdOut"]).read_text()
    runtime = [job for job in copy.jobs() if job["Comment"].startswith("rule_retrain")]
    assert [job["JobState"] for job in runtime] == ["TIMEOUT", "COMPLETED"]
    assert [job["TimeLimit"] for job in runtime] == ["00:01:00", "00:50:00"]
    assert [job["MinMemoryNode"] for job in runtime] == ["3000M", "5000M"]
    assert resumed(copy, RETRAINED)
    for job in (memory[0], runtime[0]):
        assert job["StdOut"] in copy.output
    assert_same(local, copy, MODELS[0], RETRAINED)
    assert leftovers(copy) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="a job that gets a GPU by its name works here")
def test_failing_job_names_its_log_and_only_models_take_a_gpu(submitted):
    """Asked for both as `--gpus` and as `--gres`. Without a GPU, a job that gets one by its name fails."""
    lines = {"TresPerJob": "gpu_type: fake", "TresPerNode": "gpu_gres: gpu:fake:1"}
    copies = {key: submitted(STUDY.replace("device: cpu", "device: cuda")) for key in lines}
    running = {}
    for key, copy in copies.items():
        copy.name(lines[key])
        running[key] = copy.start(MODELS[0], "results/digits/radii.parquet", "--retries", "0")
    for key, copy in copies.items():
        assert ended(copy, running[key]) == 1
        grid, pretrain = sorted(copy.jobs(), key=lambda job: job["Comment"])
        assert (pretrain["Partition"], pretrain[key], pretrain["JobState"]) == ("gpu", "gres:gpu:fake:1", "FAILED")
        assert (grid["Partition"], grid["JobState"]) == ("cpu", "COMPLETED")
        assert not {"TresPerJob", "TresPerNode"} & set(grid)
        assert "logs/digits/pretrained/net/seed0.log" in copy.output
        assert pretrain["StdOut"] in copy.output
        assert "this machine has no CUDA device" in (copy.root / "logs/digits/pretrained/net/seed0.log").read_text()
        assert not (copy.root / MODELS[0]).exists()
