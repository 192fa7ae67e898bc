"""Spherical k-means, and the members of clusters."""
