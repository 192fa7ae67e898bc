"""Triton and C kernels over matrices of predictions and embeddings.

They need torch and triton, and know nothing of active learning. kernels/README.md says what each
file holds, and derives what it computes.
"""
