"""Spherical k-means, and samples of the members of clusters."""
