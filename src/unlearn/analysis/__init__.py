"""Statistics over runs: comparisons with exact retraining, and correlations between metrics."""
