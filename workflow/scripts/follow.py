"""Rule `follow`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.follow:follow",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="torch",
    **snakemake.input,
    out=snakemake.output[0],
    arch=snakemake.wildcards.arch,
    seed=int(snakemake.wildcards.seed),
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
