"""Rule `analyse`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.analyse:analyse",
    snakemake,
    kind="tables",
    settings=snakemake.params.settings,
)
