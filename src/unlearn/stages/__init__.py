"""The stages of a study. Each takes paths and settings, writes its outputs, and can run in any
process; only workflow/scripts calls them, and they know nothing of Snakemake."""
