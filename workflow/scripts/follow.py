"""Rule `follow`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.follow:follow",
    snakemake,
    arch=snakemake.wildcards.arch,
    seed=int(snakemake.wildcards.seed),
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
