"""Rule `figure`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.report:figure",
    snakemake,
    kind="tables",
    name=snakemake.wildcards.figure,
    settings=snakemake.params.settings,
)
