"""Rule `ulira`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.ulira:ulira",
    logfile=snakemake.log[0],
    code=snakemake.params.code,
    threads=snakemake.threads,
    kind="tables",
    shadows=list(snakemake.input),
    out=snakemake.output[0],
    settings=snakemake.params.settings,
)
