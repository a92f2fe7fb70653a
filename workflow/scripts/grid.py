"""Rule `grid`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.grid:grid",
    snakemake,
    settings=snakemake.params.settings,
    device=snakemake.config["device"],
)
