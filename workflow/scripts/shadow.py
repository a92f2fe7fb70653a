"""Rule `shadow`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.shadow:shadow",
    snakemake,
    original=None,
    tuning=None,
    number=int(snakemake.wildcards.shadow),
    run=snakemake.params.run,
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
