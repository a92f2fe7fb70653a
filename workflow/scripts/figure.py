"""Rule `figure`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.report:figure",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="tables",
    name=snakemake.wildcards.figure,
    inputs=dict(snakemake.input.items()),
    **snakemake.output,
    settings=snakemake.params.settings,
)
