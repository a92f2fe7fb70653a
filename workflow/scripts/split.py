"""Rule `split`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.split:split",
    snakemake,
    kind="tables",
    forget=snakemake.wildcards.forget,
    settings=snakemake.params.settings,
)
