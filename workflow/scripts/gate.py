"""Rule `gate`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.gate:gate",
    snakemake,
    kind="tables",
    settings=snakemake.params.settings,
)
