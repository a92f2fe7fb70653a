"""Rule `analyse`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.analyse:analyse",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="tables",
    **snakemake.input,
    **snakemake.output,
    settings=snakemake.params.settings,
)
