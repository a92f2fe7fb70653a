"""Rule `shadow`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.shadow:shadow",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="torch",
    **{"original": None, "tuning": None, **snakemake.input},
    out=snakemake.output[0],
    number=int(snakemake.wildcards.shadow),
    run=snakemake.params.run,
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
