"""Rule `dataset`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.dataset:dataset",
    snakemake,
    settings=snakemake.params.settings,
)
