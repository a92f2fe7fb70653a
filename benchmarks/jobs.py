"""Snakemake's command line, which also writes jobs.json: every job, with its inputs and params, and whether it runs."""

import json

from snakemake import cli
from snakemake.dag import DAG


def write_jobs() -> None:
    """Let Snakemake write jobs.json in this process, before it starts a job."""
    postprocess = DAG.postprocess

    async def write(dag: DAG, **options: bool) -> None:
        await postprocess(dag, **options)
        jobs = [
            {
                "rule": job.rule.name,
                "wildcards": dict(job.wildcards_dict),
                "message": job.message,
                "outputs": sorted(job.output),
                "inputs": sorted(job.input),
                "params": dict(job.params.items()),
                "planned": dag.needrun(job),
            }
            for job in dag.jobs
            if job.output
        ]
        with open("jobs.json", "w", encoding="utf-8") as file:
            json.dump(jobs, file)

    DAG.postprocess = write


if __name__ == "__main__":
    write_jobs()
    cli.main()
