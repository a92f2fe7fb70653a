"""Rule `collect`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.collect:collect",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="tables",
    table=snakemake.wildcards.table,
    parts=list(snakemake.input),
    out=snakemake.output[0],
)
