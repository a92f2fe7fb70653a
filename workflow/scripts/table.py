"""Rule `table`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.report:table",
    snakemake,
    kind="tables",
    settings=snakemake.params.settings,
)
