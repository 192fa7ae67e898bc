"""Saved clusters, and fits that are interrupted and resumed."""

import json
import pickle

import numpy as np
import pytest

from fastal import InvalidRows
from fastal.diversity import CosineClusters
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.clustering.k_means import KMeans
from fastal.diversity.clustering.lloyd_pass import LloydPass
from fastal.pipeline import checkpoint
from fastal.scoring.scoring_options import ScoringOptions
from tests.support.embeddings import blobs
from tests.support.stopping import Stop, stopping

ABOUT = {"inertia": 1.5, "n_iter": 2, "converged": True, "seed": 0}


def test_saved_clusters_load_unchanged(tmp_path):
    x = blobs(0, 500)
    found = CosineClusters(6, seed=2**64 - 1).fit(x)
    found.save(tmp_path / "clusters.npz")
    loaded = CosineClusters.load(tmp_path / "clusters.npz")
    for name in ("centroids", "counts"):
        assert getattr(loaded, name).tobytes() == getattr(found, name).tobytes()
    for name in ("inertia", "n_iter", "converged"):
        assert getattr(loaded, name) == getattr(found, name)
    for ours, theirs in zip(loaded.sample(x), found.sample(x), strict=True):
        assert ours.rows.tolist() == theirs.rows.tolist()
    loaded.save(tmp_path / "again.npz")
    CosineClusters(centroids=found.centroids).save(tmp_path / "given.npz")
    given = CosineClusters.load(str(tmp_path / "given.npz"), backend="torch")
    assert (given.counts, given.inertia, given.n_iter) == (None, None, 0)
    with pytest.raises(ValueError, match=r"^backend: wanted one of"):
        CosineClusters.load(tmp_path / "given.npz", backend="x")


def written(**arrays):
    def write(path):
        whole = {"centroids": np.eye(3), "counts": np.ones(3, int), "about": json.dumps(ABOUT)}
        np.savez(path.open("wb"), **{**whole, **arrays})

    return write


BROKEN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("centroids"),
    "pickled": lambda path: path.write_bytes(pickle.dumps([1.0])),
    "an array": lambda path: np.save(path.open("wb"), np.eye(3)),
    "lacks counts": lambda path: np.savez(path.open("wb"), centroids=np.eye(3)),
    "objects": written(centroids=np.array([[None]])),
    "strings": written(centroids=np.array([["a"]])),
    "one row": written(centroids=np.ones(3)),
    "nan": written(centroids=np.full((3, 3), np.nan)),
    "more counts": written(counts=np.ones(4, int)),
    "counts that are floats": written(counts=np.ones(3)),
    "no json": written(about="{"),
    "other json": written(about="[1]"),
    "json lacks a seed": written(about="{}"),
    "a bad seed": written(about=json.dumps({**ABOUT, "seed": -1})),
    "a bad inertia": written(about=json.dumps({**ABOUT, "inertia": "low"})),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_files_of_other_content_are_named(tmp_path, name):
    path = tmp_path / "broken.npz"
    BROKEN[name](path)
    with pytest.raises(ValueError, match=r"broken.npz: not a file of clusters: .") as caught:
        CosineClusters.load(path)
    assert "\n" not in str(caught.value)


def error_of(path):
    try:
        CosineClusters.load(path)
    except ValueError as error:
        return error


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "clusters.npz"
    CosineClusters(3).fit(blobs(0, 50)).save(path)
    good = path.read_bytes()
    for place in range(0, len(good), 5):
        for damaged in (good[:place], good[:place] + bytes([good[place] ^ 65]) + good[place + 1 :]):
            path.write_bytes(damaged)
            error = error_of(path)  # None: no reader uses this byte
            assert error is None or "clusters.npz: not a file of clusters: " in str(error)
    for missing in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(OSError, match=str(missing)):
            CosineClusters.load(missing)


@pytest.fixture
def always_saved(monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)


@pytest.mark.full
@pytest.mark.parametrize("more", [{}, {"batch_size": 70}, {"max_iter": 1, "refine": 2}])
def test_a_resumed_fit_gives_the_same_bytes(tmp_path, always_saved, more):
    """Interrupts each pass at its first chunk, its last chunk and within mini-batches."""
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", blobs(i, 100 + i, n_columns=8))
    pool, saved = str(tmp_path / "*.npy"), tmp_path / "saved"
    options = {"max_iter": 3, **more}
    if (
        "batch_size" not in more
    ):  # the sample is the whole pool: with mini-batches, it fits too well
        options["centroids"] = blobs(9, 5, n_columns=8)
    want = CosineClusters(5, **options).fit(pool)
    assert want.n_iter == 3
    for left in (0, 1, 5, 6, 7, 12, 15, 18, 23):  # six chunks a pass
        with pytest.MonkeyPatch.context() as patch:
            stopping(patch, KMeans, left)
            with pytest.raises(Stop):
                CosineClusters(5, **options).fit(pool, checkpoint=saved, chunk_bytes=32 * 64)
        assert (saved / "checkpoint").exists() == (left > 0)
        found = CosineClusters(5, **options).fit(pool, checkpoint=saved, resume=True)
        assert found.centroids.tobytes() == want.centroids.tobytes()
        assert (found.counts.tolist(), found.inertia) == (want.counts.tolist(), want.inertia)
        assert (found.n_iter, found.converged) == (want.n_iter, want.converged)
        assert not list(saved.iterdir())


def test_a_checkpoint_of_other_clusters_is_refused(tmp_path, always_saved, monkeypatch):
    np.save(tmp_path / "x.npy", blobs(0, 100))
    pool, saved = str(tmp_path / "x.npy"), tmp_path / "saved"
    stopping(monkeypatch, KMeans, 1)
    with pytest.raises(Stop):
        CosineClusters(5).fit(pool, checkpoint=saved)
    for other in (CosineClusters(6), CosineClusters(5, seed=1), CosineClusters(5, batch_size=9),
                  CosineClusters(5, refine=2), CosineClusters(5, tol=0.1)):  # fmt: skip
        words = r"is of another run: (n_clusters|seed|batch_size|refine|tol)"
        with pytest.raises(ValueError, match=words):
            other.fit(pool, checkpoint=saved, resume=True)


@pytest.mark.parametrize("batch_size", [None, 30])
def test_states_of_other_arguments_are_refused(batch_size):
    x = blobs(0, 100)
    reducer = CosineClusters(3, batch_size=batch_size).reducer()
    reducer.update(x)
    reducer.next_pass()
    reducer.update(x[:50])
    state = reducer.state_dict()
    for other, words in (
        (CosineClusters(4, batch_size=batch_size), "the state has n_clusters=3, this one n_"),
        (CosineClusters(3, batch_size=batch_size, seed=1), "the state has seed=0"),
    ):
        with pytest.raises(ValueError, match=f"^load_state_dict: {words}"):
            other.reducer().load_state_dict(state)
    identity = {**state["pass"]["identity"], "batch_size": 7}
    torn = {**state, "pass": {**state["pass"], "identity": identity}}
    with pytest.raises(ValueError, match=r"^load_state_dict: the state has batch_size=7"):
        CosineClusters(3, batch_size=batch_size).reducer().load_state_dict(torn)
    with pytest.raises(ValueError, match=r"^load_state_dict: the state lacks"):
        CosineClusters(3).reducer().load_state_dict({})


@pytest.mark.parametrize("batch_size", [None, 7])
def test_a_discarded_chunk_leaves_no_trace(batch_size):
    """A chunk with a row that is not finite, and a chunk that the pipeline discards."""
    x = blobs(0, 60)
    lloyd = LloydPass(CentroidDistance(x[:3]), ScoringOptions(), batch_size)
    lloyd.update(x[:30])
    before = pickle.dumps(lloyd.state_dict())
    broken = x[30:].copy()
    broken[-1, 0] = np.nan
    with pytest.raises(InvalidRows, match="row 59 has NaN"):
        lloyd.update(broken)
    lloyd.look(x[30:]).discard()
    assert pickle.dumps(lloyd.state_dict()) == before
