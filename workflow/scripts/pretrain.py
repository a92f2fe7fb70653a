"""Rule `pretrain`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.train:pretrain",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="torch",
    **snakemake.input,
    **snakemake.output,
    arch=snakemake.wildcards.arch,
    seed=int(snakemake.wildcards.seed),
    settings=snakemake.params.settings,
    follow=snakemake.params.follow,
    device=snakemake.config["device"],
)
