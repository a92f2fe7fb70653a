"""Results that are no longer what their jobs wrote, or came from something else, are made again."""

from snakemake.dag import DAG
from unlearn.provenance import audit


def audited(check):
    """Snakemake's check for incomplete results, then the audit of those that the targets need.

    `dag_settings.forcerun` would not do: it makes every forced file a target, whatever was asked for.
    """
    policy = STUDY.config["upgrades"]

    async def check_incomplete(dag):
        await check(dag)
        records = list(audit.read_all(RESULTS))
        wrong, outdated = audit.findings(records), audit.outdated(records)
        made = {
            name: record
            for _, record in records
            if record
            for name in record["outputs"]
        }

        def forgotten(job):
            """Whether Snakemake does not know how a result was made, and it was made otherwise."""
            record = made.get(job.output[0]) if job.output else None
            return (
                record is not None
                and not workflow.persistence.has_metadata(job)
                and not audit.fits(record, job.input, dict(job.params.items()))
            )

        other = dict.fromkeys(
            (job.output[0] for job in dag.jobs if forgotten(job)),
            "not made by the code, settings and inputs of now",
        )
        found = {**other, **wrong}
        outputs = {file for job in dag.jobs for file in job.output}
        inputs = {file for job in dag.jobs for file in job.input}
        remade = {name: why for name, why in found.items() if name in outputs}
        used = {name: why for name, why in found.items() if name in inputs - outputs}
        older = {name: what for name, what in outdated.items() if name in outputs}
        dag.forcefiles.update(remade, older if policy == "rerun" else ())
        for line in (
            *audit.lines(remade, "it will be made again"),
            *audit.lines(used, "it is used as it is: no allowed rule makes it again"),
            *audit.upgrade(older, len(outputs), policy),
        ):
            print(line, file=sys.stderr)

    return check_incomplete


if workflow.is_main_process:
    DAG.check_incomplete = audited(DAG.check_incomplete)
