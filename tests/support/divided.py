"""What tests read in shards: strategies, pools of mixed formats, and what must be the same."""

import dataclasses
from contextlib import contextmanager
from itertools import accumulate, pairwise
from logging import Handler, getLogger
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import fastal
from fastal import diversity
from fastal.combine.representative_clusters import BestOfClusters, ClusterRepresentativeness
from fastal.commands.command import CommandOptions
from fastal.commands.diversity import assign_to_file, cluster_to_file, outliers_to_file
from fastal.commands.uncertainty import score_to_file, select_to_file
from fastal.distributed import divided_pass
from fastal.distributed.shards import Shard, shards_of
from fastal.pipeline.checkpoint import Checkpoint
from fastal.pipeline.progress import Reporter
from fastal.pipeline.run_on_pool import pick_from_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.scoring_options import ScoringOptions
from tests.support.formats import C, Data, data, write

MIXED = (
    "npy", "npz", "safetensors", "pt", "hdf5", "zarr", "zarr group", "parquet fixed", "arrow list",
    "stream tensor", "hdf5 in chunks", "npz compressed",
)  # fmt: skip
WITH_IDS = ("parquet fixed", "arrow list", "stream tensor", "parquet list")
# Rows of the files; some have none.
SIZES = (20, 0, 31, 7, 1, 44, 12, 0, 26, 19, 30, 21)
N = sum(SIZES)


class Case(NamedTuple):
    """Pools of the same rows, as the functions of `STRATEGIES` get them.

    Attributes:
        mixed: files of all formats.
        labelled: files with ids, groups and a column to carry.
        large: one file.
        other: one file of other values.
        cube: a file of draws [N, S, C].
        ragged: files of items, lists of 0 to 3 rows.
        data: what is in the files.
    """

    mixed: Path
    labelled: Path
    large: Path
    other: Path
    cube: Path
    ragged: Path
    data: Data

    def __repr__(self) -> str:
        return f"Case({self.large.parent})"


def written(folder, d, sizes, names):
    """A folder with a file for each size, in formats one after the other."""
    bounds = pairwise(accumulate(sizes, initial=0))
    for number, (start, stop) in enumerate(bounds):
        part = Data(*(column[start:stop] for column in d))
        write(names[number % len(names)], folder / f"{number:04}", part)
    return folder


def case(folder, sizes=SIZES):
    """The pools, written to a folder."""
    d = data(n=sum(sizes))
    draws = np.random.default_rng(1).standard_normal((len(d.x), 4, C)).astype(np.float32)
    np.save(folder / "large.npy", d.x)
    np.save(folder / "other.npy", draws[:, 0])
    np.save(folder / "cube.npy", draws)
    return Case(
        written(folder / "mixed", d, sizes, MIXED),
        written(folder / "labelled", d, sizes, WITH_IDS),
        folder / "large.npy",
        folder / "other.npy",
        folder / "cube.npy",
        ragged(folder / "ragged", draws),
        d,
    )


def ragged(folder, draws):
    """Parquet and Arrow files of items: the first 0 to 3 draws of each row."""
    folder.mkdir()
    lengths = np.random.default_rng(6).integers(0, 4, len(draws))
    rows = [draw[:n].tolist() for draw, n in zip(draws, lengths, strict=True)]
    kind = pa.list_(pa.list_(pa.float32()))
    pq.write_table(pa.table({"x": pa.array(rows[:90], kind)}), folder / "a.parquet", 13)
    table = pa.table({"x": pa.array(rows[90:], kind)})
    with (
        pa.OSFile(str(folder / "b.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as out,
    ):
        out.write_table(table, max_chunksize=31)
    return folder


def mixed(c, **how):
    return fastal.open_pool(c.mixed, **how)


def labelled(c):
    return fastal.open_pool(
        c.labelled, column="x", id_column="id", group_column="group", carry=["other"]
    )


def rounded(x):
    """A score that many rows share."""
    return (x[:, 0] * 2).round() / 8


def items_of(c, **how):
    """The rows as items of 0 to 4 rows."""
    lengths = np.random.default_rng(2).integers(0, 5, len(c.data.x))
    lengths = lengths[: np.searchsorted(lengths.cumsum(), len(c.data.x), "right")]
    lengths = np.append(lengths, len(c.data.x) - lengths.sum())
    mask = np.random.default_rng(3).random(len(c.data.x)) < 0.9
    return fastal.items(mixed(c), lengths=lengths, mask=mask, **how)


def some(n, share, seed=0):
    return np.flatnonzero(np.random.default_rng(seed).random(n) < share)


def fitted(c, **how):
    return diversity.CosineClusters(4, max_iter=6).fit(mixed(c), **how)


def state_of(clusters):
    return {
        name: getattr(clusters, name)
        for name in ("centroids", "counts", "inertia", "n_iter", "converged", "invalid")
        if hasattr(clusters, name)
    }


def best_of_clusters(c, **how):
    x = c.data.x.astype(np.float64)
    measure = ClusterRepresentativeness(torch.from_numpy(x[:5]), torch.from_numpy(x[5:8]))
    return pick_from_pool(BestOfClusters(3, measure, ScoringOptions()), mixed(c), RunOptions(**how))


def in_file(command, suffix, *, pool=mixed, **arguments):
    """A command that writes a file: its bytes, and what it returns."""

    def run(c, *, folder, **how):
        out = folder / f"out{suffix}"
        options = CommandOptions(reporter=Reporter(quiet=True), **how)
        given = {name: value(c) if callable(value) else value for name, value in arguments.items()}
        found = command(pool(c), out=out, options=options, **given)
        content = out.read_bytes()
        out.unlink()
        return found, content

    return run


def centroid_file(c):
    path = c.large.with_name("centroids.npy")
    np.save(path, c.data.x[:5])
    return path


SCORES = ["least_confidence", "margin", "ratio", "entropy"]
HEAD = np.random.default_rng(4).standard_normal((5, C)).astype(np.float32)

# Each runs a strategy over pools of a `Case`; the options are those of `RunOptions`.
SELECTIONS = {
    "margin": lambda c, **how: fastal.select(mixed(c), 9, **how),
    "entropy, one file": lambda c, **how: fastal.select(c.large, 300, "entropy", **how),
    "random": lambda c, **how: fastal.select(mixed(c), 9, "random", seed=3, **how),
    "power noise": lambda c, **how: fastal.select(mixed(c), 20, noise="power", seed=1, **how),
    "softmax noise": lambda c, **how: fastal.select(mixed(c), 9, noise="softmax", beta=3, **how),
    "softrank noise": lambda c, **how: fastal.select(mixed(c), 9, noise="softrank", **how),
    "ties": lambda c, **how: fastal.select(mixed(c), 12, rounded, **how),
    "random ties": lambda c, **how: fastal.select(
        mixed(c), 12, rounded, ties="random", seed=5, **how
    ),
    "ids and columns": lambda c, **how: fastal.select(labelled(c), 30, "ratio", **how),
    "quotas": lambda c, **how: fastal.select(labelled(c), per_group=4, **how),
    "quotas with k": lambda c, **how: fastal.select(labelled(c), 7, per_group=3, **how),
    "quotas of ties": lambda c, **how: fastal.select(
        labelled(c), by=rounded, per_group=5, ties="random", **how
    ),
    "predicted groups": lambda c, **how: fastal.select(
        mixed(c), per_group=2, groups="predicted", **how
    ),
    "given groups": lambda c, **how: fastal.select(
        mixed(c), groups=np.arange(len(c.data.x)) % 5, per_group=3, **how
    ),
    "few excluded": lambda c, **how: fastal.select(mixed(c), 9, exclude=[0, 50, 51], **how),
    "many excluded": lambda c, **how: fastal.select(
        mixed(c), 9, exclude=some(len(c.data.x), 0.95), **how
    ),
    "few allowed": lambda c, **how: fastal.select(
        labelled(c), 9, among=some(len(c.data.x), 0.1), **how
    ),
    "many allowed": lambda c, **how: fastal.select(
        mixed(c), 9, noise="power", among=some(len(c.data.x), 0.8), **how
    ),
    "quotas among few": lambda c, **how: fastal.select(
        labelled(c), per_group=3, among=some(len(c.data.x), 0.15), exclude=[0, 1, 2, 9], **how
    ),
    "draws": lambda c, **how: fastal.select(
        fastal.draws([mixed(c), c.large, c.other]), 9, "bald", **how
    ),
    "draws in a file": lambda c, **how: fastal.select(c.cube, 9, "mean_entropy", **how),
    "items": lambda c, **how: fastal.select(items_of(c), 9, aggregate="mean", **SKIP, **how),
    "highest of items": lambda c, **how: fastal.select(
        items_of(c), 9, aggregate="top2", **SKIP, **how
    ),
    "items among few": lambda c, **how: fastal.select(
        items_of(c), 5, aggregate="max", among=range(1, 40, 6), **SKIP, **how
    ),
    "items with groups": lambda c, **how: fastal.select(
        items_of(c),
        groups=np.arange(items_of(c).n_rows) % 5,
        per_group=3,
        aggregate="mean",
        **SKIP,
        **how,
    ),
    "ragged": lambda c, **how: fastal.select(
        fastal.open_pool(c.ragged, ragged=True), 9, aggregate="sum", **SKIP, **how
    ),
    "labels": lambda c, **how: fastal.select(
        mixed(c), 9, kind="multilabel_logits", aggregate="max", **how
    ),
    "head": lambda c, **how: fastal.select(mixed(c), 9, fastal.Head(HEAD, by="entropy"), **how),
    "cluster outliers": lambda c, **how: diversity.cluster_outliers(
        mixed(c), c.data.x[:3], 9, **how
    ),
    "model outliers": lambda c, **how: diversity.model_outliers(mixed(c), c.data.x[:40], 9, **how),
    "best of clusters": best_of_clusters,
}
SKIP = {"on_invalid": "skip"}
PASSES = {
    "representative": lambda c, **how: diversity.representative(
        mixed(c), c.data.x[:9] + 1, 6, **how
    ),
    "adaptive": lambda c, **how: diversity.adaptive_representative(
        mixed(c), c.data.x[:9] + 1, 4, **how
    ),
    "k-means": lambda c, **how: state_of(fitted(c, **how)),
    "k-means among few": lambda c, **how: state_of(
        fitted(c, among=some(len(c.data.x), 0.2), **how)
    ),
    "cluster sample": lambda c, **how: diversity.CosineClusters(centroids=c.data.x[:5]).sample(
        labelled(c), n_random=2, **how
    ),
    "core-set": lambda c, **how: diversity.k_center(mixed(c), 5, **how),
    "core-set in several passes": lambda c, **how: diversity.k_center(
        mixed(c), 5, memory_bytes=1, **how
    ),
    "euclidean core-set": lambda c, **how: diversity.k_center(
        mixed(c), 4, metric="euclidean", memory_bytes=1000, **how
    ),
    "warm core-set": lambda c, **how: diversity.k_center(
        mixed(c), 4, labelled=c.data.x[:6], exclude=some(len(c.data.x), 0.3), memory_bytes=1, **how
    ),
    "core-set among few": lambda c, **how: diversity.k_center(
        mixed(c), 6, among=some(len(c.data.x), 0.15), **how
    ),
}
# These take no checkpoint.
WHOLE = {
    "assign": lambda c, **how: (
        diversity.CosineClusters(centroids=c.data.x[:5]).fit(c.data.x).assign(mixed(c), **how)
    ),
    "temperature": lambda c, **how: fastal.fit_temperature(
        mixed(c), c.data.x.argmax(1) * (np.arange(len(c.data.x)) % 3 > 0), **how
    ),
}
FILES = {
    "scores in .npy": in_file(score_to_file, ".npy", by=SCORES),
    "scores in .csv": in_file(score_to_file, ".csv", by=["margin"]),
    "picks in .csv": in_file(select_to_file, ".csv", k=9, by="margin", pool=labelled),
    "clusters in .csv": in_file(assign_to_file, ".csv", centroids=centroid_file, pool=labelled),
    "clusters in .npy": in_file(assign_to_file, ".npy", centroids=centroid_file),
    "fitted and sampled": in_file(cluster_to_file, ".csv", n_clusters=4, n_random=2, pool=labelled),
    "fitted, then outliers": in_file(outliers_to_file, ".csv", k=9, n_clusters=3),
}
PARQUET = {
    "clusters in .parquet": in_file(
        assign_to_file, ".parquet", centroids=centroid_file, pool=labelled
    ),
}
RESUMABLE = SELECTIONS | PASSES | FILES
STRATEGIES = RESUMABLE | WHOLE | PARQUET


def run(name, c, folder, **how):
    """The result of a strategy."""
    if name in FILES or name in PARQUET:
        how["folder"] = folder
    return STRATEGIES[name](c, **how)


class Stop(BaseException):
    """What ends a run, as a lost process does."""


@contextmanager
def cut_at(cuts):
    """In the block, shards end at these shares of the rows, from 0 to 1; None: where they do."""
    if cuts is None:
        yield
        return

    def shards(source, chunk_rows, n_workers, first, **_):
        last = max([first, *(shard.stop for shard in shards_of(source, chunk_rows, 1, first))])
        bounds = {round(first + cut * (last - first)) for cut in cuts}
        return [Shard(*pair) for pair in pairwise(sorted({first, last} | bounds))]

    with patch.object(divided_pass, "shards_of", shards):
        yield


@contextmanager
def logged():
    """What fastal logs in the block, in a list of levels and messages."""
    messages = []
    handler = Handler()
    handler.emit = lambda record: messages.append((record.levelname, record.getMessage()))
    log = getLogger("fastal")
    log.addHandler(handler)
    try:
        yield messages
    finally:
        log.removeHandler(handler)


@contextmanager
def stopped_after(n_saves):
    """In the block, a run saves its state at every step, and ends with a save."""
    left, save = n_saves, Checkpoint.save

    def saving(self, *arguments):
        nonlocal left
        save(self, *arguments)
        left -= 1
        if left <= 0 and self.exists:
            raise Stop

    with patch.object(Checkpoint, "is_due", True), patch.object(Checkpoint, "save", saving):
        yield


def bits(found: Any) -> Any:
    """Plain values that are equal if results are the same, bit for bit."""
    if isinstance(found, torch.Tensor):
        return "tensor", str(found.dtype), bits(found.numpy())
    if isinstance(found, np.ndarray):
        held = found.tolist() if found.dtype == object else found.tobytes()
        return "array", str(found.dtype), found.shape, held
    if isinstance(found, float):
        return found.hex()
    if dataclasses.is_dataclass(found):
        return {f.name: bits(getattr(found, f.name)) for f in dataclasses.fields(found)}
    if isinstance(found, dict):
        return {name: bits(value) for name, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [bits(value) for value in found]
    return found
