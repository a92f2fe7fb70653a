"""Rule `measure`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.measure:measure",
    snakemake,
    kind="tables",
    retrain_metrics=None,
    run=snakemake.params.run,
    metrics=snakemake.params.metrics.split(),
)
