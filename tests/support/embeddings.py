"""Embeddings: random rows, rows around centers, and rows of length 1."""

import numpy as np
import torch


def rows_of(n, n_columns, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_columns, generator=generator, dtype=torch.float64).to(dtype)


def blobs(seed, n=3000, n_columns=16, n_blobs=12, noise=1.0):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((n_blobs, n_columns))
    x = centers[rng.integers(n_blobs, size=n)] + noise * rng.standard_normal((n, n_columns))
    return x.astype(np.float32)


def unit(x):
    """Rows of length 1 in long doubles, which hold the square of any float64."""
    x = np.asarray(x.double().numpy() if isinstance(x, torch.Tensor) else x, np.longdouble)
    length = np.sqrt((x * x).sum(1, keepdims=True))
    return x / np.where(length == 0, 1, length)
