"""What a worker sends of errors."""

import pickle
import sys
from types import SimpleNamespace

import cloudpickle
import pytest

from fastal.distributed.shard_reader import _portable


@pytest.fixture(autouse=True)
def _pickler_of_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(cloudpickle=cloudpickle))


def of_kind(kind):
    """An error of this kind that cannot be pickled, since it needs two arguments."""

    class Fault(kind):
        def __init__(self, what, where):
            super().__init__(f"{what} in {where}")

    return Fault("a fault", "row 3")


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (TypeError, TypeError),
        (OSError, OSError),
        (UnicodeError, ValueError),
        (MemoryError, RuntimeError),
        (KeyError, RuntimeError),
        (Exception, RuntimeError),
    ],
)
def test_an_error_that_cannot_be_sent_becomes_one_of_its_kind(kind, sent):
    error = of_kind(kind)
    found = pickle.loads(pickle.dumps(_portable(error)))
    assert type(found) is sent
    assert str(found) == str(error)


def test_an_error_that_can_be_sent_is_sent_as_it_is():
    error = FileNotFoundError(2, "no such file", "a.npy")
    assert _portable(error) is error
