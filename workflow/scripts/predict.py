"""Rule `predict`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.predict:predict",
    snakemake,
    run=snakemake.params.run,
    device=snakemake.config["device"],
)
