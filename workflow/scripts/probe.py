"""Rule `probe`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.probe:probe",
    snakemake,
    run=snakemake.params.run,
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
