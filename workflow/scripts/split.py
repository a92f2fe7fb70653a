"""Rule `split`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.split:split",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="tables",
    dataset=snakemake.input.dataset,
    out=snakemake.output[0],
    forget=snakemake.wildcards.forget,
    settings=snakemake.params.settings,
)
