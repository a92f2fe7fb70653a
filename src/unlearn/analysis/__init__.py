"""Statistics over the runs of a study: comparisons, correlations, conjectures, gates, U-LiRA."""
