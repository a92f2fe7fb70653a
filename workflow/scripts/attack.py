"""Rule `attack`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.attack:attack",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="torch",
    **snakemake.input,
    out=snakemake.output[0],
    run=snakemake.params.run,
    attack=snakemake.wildcards.attack,
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
