"""Pages of a study: the main table and the verdicts."""
