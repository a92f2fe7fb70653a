"""Rule `pretrain`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.train:pretrain",
    snakemake,
    arch=snakemake.wildcards.arch,
    seed=int(snakemake.wildcards.seed),
    settings=snakemake.params.settings,
    follow=snakemake.params.follow,
    device=snakemake.config["device"],
)
