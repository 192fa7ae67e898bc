"""Two pools of the same rows, such as logits and embeddings."""

from fastal.sources.source import Source


def check_beside(pool: Source, beside: Source) -> None:
    """Checks that two pools may have the same rows. Ids are compared when both pools are read.

    Raises:
        ValueError: the pools have different numbers of rows.
    """
    if None not in (pool.n_rows, beside.n_rows) and pool.n_rows != beside.n_rows:
        raise ValueError(
            f"beside: wanted {pool.n_rows:,} rows, as the pool has, got {beside.n_rows:,}"
        )


def check_in_order(pool: Source, name: str) -> None:
    """ValueError if files were not named in path order: rows must not be matched by number then."""
    if not getattr(pool, "named_in_order", True):
        raise ValueError(
            f"{name}: the rows are numbered in the order of the files' paths: name the files in "
            "that order (sorted), and give the labels in the same order"
        )
