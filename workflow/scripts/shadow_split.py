"""Rule `shadow_split`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.shadow_split:shadow_split",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="tables",
    dataset=snakemake.input[0],
    **snakemake.output,
    shadow=int(snakemake.wildcards.shadow),
    settings=snakemake.params.settings,
)
