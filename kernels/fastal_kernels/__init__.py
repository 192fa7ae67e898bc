"""Triton and C kernels over matrices of predictions and embeddings. They need torch and triton alone.

kernels/README.md says what each file holds, and derives what it computes.
"""
