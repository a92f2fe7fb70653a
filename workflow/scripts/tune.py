"""Rule `tune`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.tune:tune",
    snakemake,
    run=snakemake.params.run,
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
