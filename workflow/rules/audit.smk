"""The audit of results at each plan (unlearn.provenance.audit), hooked into Snakemake; what `--touch` vouches for."""

from snakemake.dag import DAG
from unlearn.provenance import audit

check_incomplete = DAG.check_incomplete


def planned(job):
    """Whether Snakemake remembers how a job's results were made, and it was otherwise."""
    memory = workflow.persistence
    return memory.has_metadata(job) and bool(
        memory.params_changed(job) or any(memory.input_changed(job))
    )


async def audited(dag):
    """`dag_settings.forcerun` would not do: it makes every forced file a target, whatever was asked for."""
    await check_incomplete(dag)
    forced, lines = audit.plan(
        RESULTS, dag.jobs, planned, STUDY.config["upgrades"], workflow.touch
    )
    dag.forcefiles.update(forced)
    print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)


if workflow.is_main_process:
    DAG.check_incomplete = audited


onsuccess:
    if workflow.touch:
        audit.vouch(workflow.dag.jobs)
