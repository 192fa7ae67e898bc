"""Triton kernels over prediction matrices; they need torch and triton and nothing else."""
