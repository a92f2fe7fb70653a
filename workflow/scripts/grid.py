"""Rule `grid`: see unlearn.stages."""

from unlearn.launch import launch

launch(
    "unlearn.stages.grid:grid",
    snakemake,
    settings=snakemake.params.settings,
    # Radii that are given are written down, on a node that need not have the device.
    device=snakemake.config["device"] if snakemake.input else "cpu",
)
