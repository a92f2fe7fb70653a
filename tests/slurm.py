"""A real SLURM on this machine: one controller, two virtual nodes with fake GPUs, all of it in a throw-away folder.

Daemons listen on the loopback interface only, and it works for root and for an ordinary user. Jobs are tracked by
cgroups where the machine lets us (root, cgroup v1), as on real clusters: a job's own process alone gets SIGTERM then.
Elsewhere all its processes get it, and memory is watched by polling. Nothing else is written. Seen on Debian 12 with
Slurm 22.05.8: starts in one second, stops in four.
"""

import contextlib
import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tiny import PLANNER, Copy

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
NODES = tuple(f"unlearn-{os.getpid()}-{i}" for i in (1, 2))  # cgroups bear their names
SBIN = "/usr/sbin"  # where distributions put daemons, which an ordinary user's PATH leaves out
T = TypeVar("T")

CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={state}/munge.sock
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/spool.%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/%n.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/%n.log
{tracking}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0
JobRequeue=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=900
KillWait=5
SlurmdTimeout=30
GresTypes=gpu
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=gpu Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""
POLLING = "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nJobAcctGatherParams=OverMemoryKill"
CGROUPS = "ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup"
CGROUP = "CgroupAutomount=no\nConstrainRAMSpace=yes\nConstrainSwapSpace=no\nConstrainCores=no\nConstrainDevices=no\n"
HIERARCHIES = [Path("/sys/fs/cgroup") / name for name in ("freezer", "memory", "cpuset")]
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=9000 Gres=gpu:fake:1\n"
# A device that exists makes CUDA_VISIBLE_DEVICES be set; nothing opens it.
GRES = "NodeName={name} Name=gpu Type=fake File={device} Flags=nvidia_gpu_env\n"


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    path = f"{os.environ['PATH']}:{SBIN}"
    if absent := [name for name in PROGRAMS if not shutil.which(name, path=path)]:
        return f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge"
    try:
        address = socket.gethostbyname(_host())
    except OSError:
        address = "nothing"
    if not address.startswith("127."):
        return f"SLURM on loopback needs {_host()} to be 127.* in /etc/hosts, and it is {address}"
    return ""


def cgroups() -> bool:
    """Whether we may make cgroups of the first version here."""
    probes = [hierarchy / f"probe-{os.getpid()}" for hierarchy in HIERARCHIES]
    try:
        for probe in probes:
            probe.mkdir()
            probe.rmdir()
    except OSError:
        return False
    return True


def _host() -> str:
    return socket.gethostname().split(".")[0]


def until(found: Callable[[], T], what: str, seconds: float = 60) -> T:
    """What ``found`` returns once that is true. Raises TimeoutError, which says ``what`` did not come."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)
    return result


class Cluster:
    """The daemons, and what SLURM's commands say. ``state`` must have a short path: sockets lie in it."""

    def __init__(self, state: Path):
        self.state = state
        self.environment = {
            **os.environ,
            "SLURM_CONF": f"{state}/slurm.conf",
            "PATH": f"{state}/bin:{os.environ['PATH']}:{SBIN}",
        }

    def start(self) -> None:
        self._configure()
        key = self.state / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        files = [f"--{kind}={self.state}/munge.{end}" for kind, end in (("socket", "sock"), ("pid-file", "pid"))]
        files += [f"--{kind}={self.state}/munge.{end}" for kind, end in (("log-file", "log"), ("seed-file", "seed"))]
        self.call("munged", f"--key-file={key}", *files, "--num-threads=1", "--force")
        self.start_controller()
        for node in NODES:
            self.call("slurmd", "-N", node)
        until(lambda: self._idle() == len(NODES), "idle nodes")

    def _configure(self) -> None:
        host, user = _host(), getpass.getuser()
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in range(1 + len(NODES))]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            port, *ports = (one.getsockname()[1] for one in sockets)
        tracking = CGROUPS if cgroups() else POLLING
        text = CONF.format(host=host, user=user, port=port, state=self.state, tracking=tracking)
        text += "".join(NODE.format(name=n, host=host, port=p) for n, p in zip(NODES, ports, strict=True))
        (self.state / "slurm.conf").write_text(text)
        (self.state / "cgroup.conf").write_text(CGROUP)
        devices = zip(NODES, ("/dev/null", "/dev/zero"), strict=True)
        (self.state / "gres.conf").write_text("".join(GRES.format(name=n, device=d) for n, d in devices))
        # The executor plugin takes SLURM_CONF out of the environment of the srun in its jobs.
        srun = self.state / "bin/srun"
        srun.parent.mkdir()
        real = shutil.which("srun", path=self.environment["PATH"])
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.state}/slurm.conf; export SLURM_CONF\nexec {real} "$@"\n')
        srun.chmod(0o755)

    def start_controller(self) -> None:
        (self.state / "controller").mkdir(exist_ok=True)
        self.call("slurmctld")  # ends well before it can fail: its log tells
        until(self._answers, f"slurmctld, see {self.state}/slurmctld.log", 20)

    def stop_controller(self) -> None:
        self._end(self.state / "slurmctld.pid")

    @contextlib.contextmanager
    def lost(self, node: str) -> Iterator[None]:
        """A node that the controller gives up because it cannot reach it; what ran there runs on, unheard."""
        os.kill(int((self.state / f"{node}.pid").read_text()), signal.SIGKILL)
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")
        try:
            yield
        finally:
            self.call("slurmd", "-N", node)

    def urgent(self, node: str) -> str:
        """The number of a new job that takes the place of another on a node."""
        script = ["--wrap", "sleep 5", "--output=/dev/null", "--mem=100"]
        return self.call("sbatch", "--parsable", "-p", "urgent", "-w", node, *script).strip()

    def start_soon(self, number: str) -> None:
        """A job that was queued again starts when it can; SLURM would let it wait for two minutes."""
        until(lambda: self.job(number)["JobState"] == "PENDING", f"job {number} is queued again")
        self.call("scontrol", "update", f"JobId={number}", "StartTime=now")

    def job(self, number: str) -> dict[str, str]:
        return next(job for job in self.jobs() if job["JobId"] == number)

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError, subprocess.SubprocessError):  # it may never have started
            self.call("scancel", "--quiet", "--full", f"--user={getpass.getuser()}")
            until(lambda: not self.call("squeue", "-h", "--states=R,CG"), "the end of all jobs", 20)
        for file in (*(f"{node}.pid" for node in NODES), "slurmctld.pid", "munge.pid"):
            self._end(self.state / file)
        for node in NODES:
            for hierarchy in HIERARCHIES:
                for folder in sorted((hierarchy / f"slurm_{node}").glob("**/"), reverse=True):
                    folder.rmdir()

    def _end(self, file: Path) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            until(lambda: not Path(f"/proc/{pid}/exe").exists(), f"the end of {file.stem}", 20)

    def call(self, *command: str) -> str:
        """Output of a command. Raises RuntimeError, subprocess.TimeoutExpired."""
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}")
        return done.stdout

    def _answers(self) -> bool:
        if "fatal:" in (log := (self.state / "slurmctld.log").read_text()):
            raise RuntimeError(log)
        return "is UP" in self.call("sh", "-c", "scontrol ping || true")

    def _idle(self) -> int:
        return self.call("sinfo", "-h", "-N", "-p", "cpu", "-o", "%T").split().count("idle")

    def jobs(self) -> list[dict[str, str]]:
        """All jobs, also those that have ended, as `scontrol show job` tells of them, in order of submission."""
        lines = self.call("scontrol", "show", "job", "--oneliner").splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.startswith("JobId=")]


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster. Its folder stays if it does not stop."""
    state = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    found = Cluster(state)
    try:
        found.start()
        yield found
    finally:
        found.stop()
    shutil.rmtree(state)


class Submitted(Copy):
    """A copy of the project whose commands submit to a cluster through the project's own profile."""

    # The plugin waits ten seconds longer after each look at the queue in which no job had ended.
    SNAKEMAKE = (
        "-P",
        "-c",
        f"import sys; sys.path.append({str(PLANNER.parent)!r}); import planner;"
        "from snakemake_executor_plugin_slurm import Executor;"
        "Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None);"
        "planner.main()",
    )

    def __init__(self, root: Path, study: str, on: Cluster):
        super().__init__(root, study)
        self.on, self.held, self.running = on, [], []

    def start(self, *arguments: str) -> subprocess.Popen:
        """Snakemake, not waited for. Its output is in ``output``."""
        with open(self.root / "output", "ab") as output:
            streams = {"stdout": output, "stderr": output}
            command = self._command(arguments)
            self.running.append(subprocess.Popen(command, cwd=self.root, env=self._environment(), **streams))
        return self.running[-1]

    def close(self) -> None:
        """Nothing of it runs any more, whatever became of its test."""
        for process in self.running:
            process.kill()
            process.wait()
        for pid in self.held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for job in self.jobs():
            self.on.call("scancel", "--quiet", "--full", job["JobId"])

    @property
    def output(self) -> str:
        return (self.root / "output").read_text()

    def name(self, line: str) -> None:
        """Edit the line of the profile that this key has among the cluster's names, or take it out of its comment."""
        profile = self.root / "profiles/slurm/profile.yaml"
        text, number = re.subn(rf"^  (# )?{line.split(':')[0]}:.*$", f"  {line}", profile.read_text(), flags=re.M)
        assert number == 1, line
        profile.write_text(text)

    def _options(self, arguments: tuple[str, ...]) -> list[str]:
        # Those of the profile are for clusters where jobs take longer than a few seconds.
        quick = ["--jobs", "4", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
        return ["--profile", "profiles/slurm", "--configfile", "tiny.yaml", *quick, *arguments]

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), **{name: self.on.environment[name] for name in ("SLURM_CONF", "PATH")}}

    def jobs(self) -> list[dict[str, str]]:
        return [job for job in self.on.jobs() if job["WorkDir"] == str(self.root)]

    # --- trainings held in the middle, so that no test depends on how fast they are -------------------------

    def hold(self, output: str, seconds: float = 150) -> int:
        """Stop the process that makes ``output`` once it has kept some progress. Returns its id."""
        record = (self.root / output).parent / ".made" / f"{Path(output).name}.json"
        until(lambda: any(record.with_suffix(".progress").glob("*.pt")), f"progress of {output}", seconds)
        pid = until(lambda: holder(record.with_suffix(".lock")), f"whoever makes {output}")
        os.kill(pid, signal.SIGSTOP)
        self.held.append(pid)
        return pid


def holder(lock: Path) -> int | None:
    """A process that has a file open, if there is one."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it has gone meanwhile, or is somebody else's
            if os.readlink(link) == str(lock):
                return int(link.parts[2])
    return None
