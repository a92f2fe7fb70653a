"""Rule `measure`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.measure:measure",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="tables",
    **{"retrain_metrics": None, **snakemake.input},
    out=snakemake.output[0],
    run=snakemake.params.run,
    metrics=snakemake.params.metrics.split(),
)
