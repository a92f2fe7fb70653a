"""Rule `collect`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.collect:collect",
    snakemake,
    kind="tables",
    table=snakemake.wildcards.table,
)
