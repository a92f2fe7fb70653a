"""Rule `gate`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.gate:gate",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="tables",
    metrics=snakemake.input[0],
    out=snakemake.output[0],
    settings=snakemake.params.settings,
)
