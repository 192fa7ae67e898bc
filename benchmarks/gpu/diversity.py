"""Checks core-sets and duplicates against float64 on the same device."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.truth import Findings, name_of
from fastal import diversity

PICKED, CENTROIDS, COPIES = 12, 20, 9


def check_core_set(device: str, n_rows: int, n_columns: int) -> Iterator[dict[str, Any]]:
    """A record for each metric: each pick is farthest from the earlier picks, up to rounding."""
    for metric, dtype in (("cosine", torch.bfloat16), ("euclidean", torch.float32)):
        findings = Findings()
        with findings.check(f"{metric}, {name_of(dtype)}"):
            x = _rows(n_rows, n_columns, dtype, device)
            picks = diversity.k_center(x, PICKED, labelled=x[:2], metric=metric)
            _assert_farthest(picks, x, metric)
        yield findings.record(metric=metric)


def _assert_farthest(picks: Any, x: Tensor, metric: str) -> None:
    assert len(picks.rows) == PICKED, f"{len(picks.rows)} picks, not {PICKED}"
    allowed = (x.shape[1] + 8) * 2.0**-23 + (2.0**-17 if x.dtype == torch.bfloat16 else 0)
    nearest = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device)
    for centre in (0, 1):
        torch.minimum(nearest, _distances(x, centre, metric), out=nearest)
    for row, score in zip(picks.rows.tolist(), picks.scores.tolist(), strict=True):
        farthest, distance = float(nearest.max()), float(nearest[row])
        most = allowed * (1 if metric == "cosine" else distance)
        assert abs(score - distance) <= most, f"row {row}: {score}, not {distance}"
        assert farthest - distance <= 2 * most, f"row {row} at {distance} before one at {farthest}"
        torch.minimum(nearest, _distances(x, row, metric), out=nearest)


def _distances(x: Tensor, centre: int, metric: str) -> Tensor:
    x = x.double()
    if metric == "euclidean":
        return (x - x[centre]).norm(dim=1)
    return 1 - x @ x[centre] / (x.norm(dim=1) * x[centre].norm())


def check_duplicates(device: str, n_rows: int, n_columns: int) -> dict[str, Any]:
    """Scaled copies of rows are found among dissimilar rows, and no other rows are."""
    findings = Findings()
    with findings.check("duplicates"):
        x = _rows(n_rows, n_columns, torch.float32, device)
        originals = torch.arange(0, n_rows // 2, max(1, n_rows // 2 // COPIES))
        copies = n_rows - 1 - originals
        x[copies.to(device)] = 2 * x[originals.to(device)]
        found = diversity.deduplicate(x, x[:CENTROIDS], 0.99)
        assert found.rows.tolist() == copies.flip(0).tolist(), f"rows {found.rows.tolist()}"
        assert found.of.tolist() == originals.flip(0).tolist(), f"of rows {found.of.tolist()}"
        off = float((found.similarity - 1).abs().max())
        assert off <= 2.0**-22, f"similarities are off by {off:.1e}"
    return findings.record()


def _rows(n_rows: int, n_columns: int, dtype: torch.dtype, device: str) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    x = torch.empty(n_rows, n_columns, device=device).normal_(generator=generator)
    return x.to(dtype)
