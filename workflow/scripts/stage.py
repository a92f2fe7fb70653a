"""The script of every rule: runs the stage that the rule's ``params.code`` names."""

from unlearn.runtime.launcher import launch

launch(snakemake)
