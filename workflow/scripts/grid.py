"""Rule `grid`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.grid:grid",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="torch",
    **snakemake.input,
    out=snakemake.output[0],
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
