"""Rule `unlearn`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.train:unlearn",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="torch",
    **{"original": None, "tuning": None, **snakemake.input},
    **snakemake.output,
    run=snakemake.params.run,
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
