"""Rule `attack`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.attack:attack",
    snakemake,
    run=snakemake.params.run,
    attack=snakemake.wildcards.attack,
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
