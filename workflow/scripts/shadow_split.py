"""Rule `shadow_split`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.shadow_split:shadow_split",
    snakemake,
    kind="tables",
    shadow=int(snakemake.wildcards.shadow),
    settings=snakemake.params.settings,
)
