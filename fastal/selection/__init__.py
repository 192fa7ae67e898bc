"""Which rows are picked: streaming selections of the best scores."""
