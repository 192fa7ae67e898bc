"""Draws as a pool: one array in any order, pools side by side, passes with dropout."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from tests.support.draws import assert_draws, draws_oracle

rng = np.random.default_rng(0)
# [S, N, C]: rows differ in how much their draws disagree
X = (rng.normal(size=(5, 60, 4)) * rng.random((60, 1)) * 3).astype(np.float32)
TRUTH = draws_oracle(X.transpose(1, 0, 2))


def best(name, k=7):
    return np.argsort(-TRUTH[name], kind="stable")[:k].tolist()


def written(folder, member, suffix):
    path = folder / f"member{member}{suffix}"
    if suffix == ".npy":
        np.save(path, X[member])
    else:
        ids = pa.array([f"row {row}" for row in range(60)])
        rows = pa.FixedSizeListArray.from_arrays(pa.array(X[member].ravel()), 4)
        pq.write_table(pa.table({"id": ids, "logits": rows}), path, row_group_size=11)
    return path


@pytest.mark.parametrize("name", ["bald", "variance", "vote_entropy", "margin"])
def test_all_forms_of_draws_give_the_same_picks(name, tmp_path):
    (tmp_path / "whole").mkdir()
    np.save(tmp_path / "whole" / "draws.npy", X.transpose(1, 0, 2))
    forms = {
        "array": X.transpose(1, 0, 2),
        "file": tmp_path / "whole" / "draws.npy",
        "draws first": fastal.draws(X, axis=0),
        "draws last": fastal.draws(torch.tensor(X).permute(1, 2, 0), axis=-1),
        "list": fastal.draws(list(X)),
        "tensors": fastal.draws([torch.tensor(x) for x in X]),
        "files": fastal.draws([written(tmp_path, member, ".npy") for member in range(5)]),
        "kinds": fastal.draws([written(tmp_path, 0, ".parquet"), *X[1:]]),
        "chunks": (x for x in np.split(X.transpose(1, 0, 2), [1, 1, 30])),
    }
    for form, pool in forms.items():
        picks = fastal.select(pool, 7, name, draws_axis=1, chunk_bytes=2000)
        assert picks.rows.tolist() == best(name), form
        np.testing.assert_allclose(picks.scores, TRUTH[name][best(name)], rtol=1e-5)


def test_axes_are_named_in_any_order():
    classes_first = np.ascontiguousarray(X.transpose(1, 2, 0))
    want = fastal.score(X.transpose(1, 0, 2), draws_axis=1)
    assert_draws(want._asdict(), TRUTH)
    for got in (
        fastal.score(classes_first, draws_axis=2, class_axis=1),
        fastal.score(classes_first, draws_axis=-1, class_axis=-2),
        fastal.score(fastal.draws(X, axis=0)),
        fastal.score(fastal.draws(list(X))),
    ):
        assert all(map(np.array_equal, got, want))


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=5), chunk_bytes=st.integers(1, 20_000))
def test_members_cut_differently_are_brought_together(cuts, chunk_bytes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for number, part in enumerate(np.split(X[1], sorted(cuts))):
        np.save(folder / f"{number:02}.npy", part)
    pool = fastal.draws([X[0], folder, *X[2:]])
    picks = fastal.select(pool, 7, "bald", chunk_bytes=chunk_bytes)
    assert picks.rows.tolist() == best("bald")


@pytest.mark.full
def test_a_saved_run_continues_and_knows_its_members(tmp_path, interrupting):
    members = [written(tmp_path, member, ".npy") for member in range(5)]
    want = fastal.select(fastal.draws(members), 7, "bald")
    options = {"checkpoint": tmp_path / "saved", "chunk_bytes": 500}
    interrupting(fastal.Selector)(3)
    with pytest.raises(KeyboardInterrupt):
        fastal.select(fastal.draws(members), 7, "bald", **options)
    with pytest.raises(ValueError, match="of another run"):
        fastal.select(fastal.draws(members[1:]), 7, "bald", **options, resume=True)
    picks = fastal.select(fastal.draws(members), 7, "bald", **options, resume=True)
    assert picks.rows.tolist() == want.rows.tolist()


def test_groups_are_those_of_the_first_pool(tmp_path):
    groups = [f"kind {row % 3}" for row in range(60)]
    rows = pa.FixedSizeListArray.from_arrays(pa.array(X[0].ravel()), 4)
    pq.write_table(pa.table({"kind": groups, "logits": rows}), tmp_path / "0.parquet")
    first = fastal.open_pool(tmp_path / "0.parquet", column="logits", group_column="kind")
    (tmp_path / "shards").mkdir()
    for number, part in enumerate(np.split(X[1], [13, 40])):
        np.save(tmp_path / "shards" / f"{number}.npy", part)
    picks = fastal.select(
        fastal.draws([first, tmp_path / "shards", *X[2:]]), by="bald", per_group=2
    )
    ranked = best("bald", 60)
    want = [[row for row in ranked if row % 3 == kind][:2] for kind in range(3)]
    assert sorted(picks.rows.tolist()) == sorted(np.concatenate(want).tolist())
    assert picks.groups.tolist() == [groups[row] for row in picks.rows]


def test_ids_and_columns_are_those_of_the_first_pool(tmp_path):
    members = [written(tmp_path, member, ".parquet") for member in range(5)]
    pools = [fastal.open_pool(path, column="logits", id_column="id") for path in members]
    picks = fastal.select(fastal.draws(pools), 7, "bald", exclude=[best("bald")[0]])
    assert picks.rows.tolist() == best("bald", 8)[1:]
    assert list(picks.ids) == [f"row {row}" for row in picks.rows]
    other = fastal.open_pool(X[1], ids=[f"line {row}" for row in range(60)])
    with pytest.raises(ValueError, match=r"row \d+ has id 'row \d+' in the first pool.* 'line"):
        fastal.select(fastal.draws([pools[0], other]), 7, "bald")


def test_members_that_disagree_in_form_are_refused(tmp_path):
    path = written(tmp_path, 0, ".npy")
    cases = {
        r"pool 0 has 60 rows, pool 1 59": [X[0], X[1][:59]],
        r"pool 1 \(3,\) of torch.float32": [X[0], X[1][:, :3]],
        r"pool 1 \(4,\) of torch.float64": [X[0], X[1].astype(np.float64)],
        r"wanted pools whose number of rows is known beforehand, got pool 1": [X[0], iter([X[1]])],
        r"an empty list": [],
    }
    for says, pools in cases.items():
        with pytest.raises(ValueError, match=says):
            fastal.select(fastal.draws(pools), 3, "bald")
    for says, axis, pool in (
        ("axis: no axis 3", 3, X),
        ("axis: no axis True", True, X),
        (r"wanted an array of rows, draws and classes, got \(60, 4\)", 1, X[0]),
        ("axis: it is for one array", 0, list(X)),
    ):
        with pytest.raises(ValueError, match=says):
            fastal.draws(pool, axis=axis)
    with pytest.raises(TypeError, match="wanted a list with one pool for each draw"):
        fastal.draws(path)


def test_what_is_not_draws_is_refused_and_the_error_says_what_to_write():
    first = X.transpose(1, 0, 2)
    cases = {
        r"give fastal.draws\(\[...\]\)": (X[0], {"by": "bald"}),
        r"draws_axis: axis 0 counts the rows.*fastal.draws\(x, axis=0\)": (
            X, {"by": "bald", "draws_axis": 0},
        ),
        r"draws_axis: no axis 3 in rows of shape": (first, {"draws_axis": 3}),
        r"draws_axis: axis 2 is that of the classes": (first, {"draws_axis": 2}),
        r"For draws of one row, give draws_axis=1": (first, {}),
        r"aggregate: wanted draws_axis or aggregate": (
            first, {"draws_axis": 1, "aggregate": "mean"},
        ),
        r"aggregate: by='bald' is of draws": (first, {"by": "bald", "aggregate": "mean"}),
        r"draws are of one of logits": (first, {"draws_axis": 1, "kind": "multilabel_logits"}),
        r"wanted at least 1 draw and 2 classes": (first[:, :, :1], {"by": "bald"}),
    }  # fmt: skip
    for says, (pool, arguments) in cases.items():
        with pytest.raises(ValueError, match=says):
            fastal.select(pool, 3, **arguments)


def test_an_invalid_draw_is_named_with_its_row():
    x = X.transpose(1, 0, 2).copy()
    x[17, 3, 1] = np.nan
    with pytest.raises(fastal.InvalidRows, match=r"row 17 .*has a draw that is invalid"):
        fastal.select(x, 3, "bald")
    scores = fastal.score(x, draws_axis=1, on_invalid="skip")
    assert all(np.flatnonzero(np.isnan(column)).tolist() == [17] for column in scores)


def test_a_state_knows_its_axes():
    state = fastal.Selector(3, "bald").state_dict()
    for other in (
        fastal.Selector(3, "variance"),
        fastal.Selector(3, "bald", draws_axis=2, class_axis=1),
        fastal.Selector(3, "bald", temperature=2.0),
    ):
        with pytest.raises(ValueError, match="by"):
            other.load_state_dict(state)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(6)
        self.drop = torch.nn.Dropout(0.5)
        self.idle = torch.nn.Dropout(0.0)
        self.out = torch.nn.Linear(6, 3)
        self.seen = []

    def forward(self, x):
        layers = self, self.norm, self.drop, self.idle
        self.seen.append([layer.training for layer in layers])
        return self.out(self.idle(self.drop(self.norm(x))))


def test_passes_with_dropout_leave_the_model_as_it_was():
    torch.manual_seed(0)
    net, loader = Net(), torch.randn(40, 6).split(16)
    net.norm.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    passes = fastal.predictions(net, loader, draws=20)
    picks = fastal.select(passes, 5, "bald")
    assert len(picks) == 5
    assert net.seen == [[False, False, True, False]] * 60
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    torch.manual_seed(1)
    first = torch.cat(list(fastal.predictions(net, loader, draws=20)))
    torch.manual_seed(1)
    assert torch.equal(first, torch.cat(list(fastal.predictions(net, loader, draws=20))))
    assert first.shape == (40, 20, 3)
    assert (first.var(1) > 0).all()


def test_a_model_that_fails_gets_its_modes_back():
    net = Net()
    with pytest.raises(RuntimeError):
        next(fastal.predictions(net, [torch.zeros(2, 5)], draws=3))
    assert all(module.training for module in net.modules())


def test_draws_want_something_to_draw():
    for model in (torch.nn.Linear(6, 3), torch.nn.Dropout(0.0), torch.sigmoid):
        with pytest.raises(ValueError, match=r"draws: the model has no dropout layer with p > 0"):
            fastal.predictions(model, [torch.zeros(2, 6)], draws=3)
    with pytest.raises(ValueError, match="draws: wanted at least 1"):
        fastal.predictions(Net(), [torch.zeros(2, 6)], draws=0)
