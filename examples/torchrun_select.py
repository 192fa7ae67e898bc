"""Picks from the files of a pool, read by several processes, on one machine or on several.

torchrun starts the processes. Each reads its share of the rows into a `fastal.Selector`. The first
process merges the selectors, and saves the picks. They are those of one process, bit for bit.

All machines need the same paths, or URLs. Only the selectors travel between the processes: each has
the k best rows of its share.

Usage: torchrun --nproc-per-node 4 examples/torchrun_select.py POOL PICKS [K]
"""

import sys

import torch.distributed as dist

import fastal


def main(pool, out, k=1000):
    """Reads the share of this process. The first process saves the picks."""
    dist.init_process_group("gloo")  # selectors are sent from memory of the host
    rank, n_ranks = dist.get_rank(), dist.get_world_size()
    n_rows = fastal.open_pool(pool).n_rows
    start, stop = (n_rows * part // n_ranks for part in (rank, rank + 1))
    selector = fastal.read_shard(fastal.Selector(k=int(k), by="margin"), pool, start, stop)
    selectors = [None] * n_ranks if rank == 0 else None
    dist.gather_object(selector, selectors)
    if rank == 0:
        picks = fastal.merge_shards(selectors, pool)
        picks.save(out)
        print(f"{len(picks)} picks of {n_rows} rows, read by {n_ranks} processes: {out}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
