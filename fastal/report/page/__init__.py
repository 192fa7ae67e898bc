"""The report: one HTML page that shows a run, with its style and its script."""
