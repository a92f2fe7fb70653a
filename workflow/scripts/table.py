"""Rule `table`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.report:table",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="tables",
    **snakemake.input,
    **snakemake.output,
    settings=snakemake.params.settings,
)
