"""Simulated rounds of labelling, to compare strategies on data whose labels are known."""
