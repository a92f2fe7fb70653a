"""Rule `dataset`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.dataset:dataset",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="torch",
    out=snakemake.output[0],
    settings=snakemake.params.settings,
)
