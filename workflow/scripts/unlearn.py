"""Rule `unlearn`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.train:unlearn",
    snakemake,
    original=None,
    tuning=None,
    run=snakemake.params.run,
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
