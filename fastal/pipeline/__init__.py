"""Drives reducers over pools: chunks, checkpoints, progress, signals."""
