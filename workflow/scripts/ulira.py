"""Rule `ulira`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.ulira:ulira",
    snakemake,
    kind="tables",
    settings=snakemake.params.settings,
)
