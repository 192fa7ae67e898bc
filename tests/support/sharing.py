"""What all processes that run the tests share."""

import os


def made_once(tmp_path_factory, name, make):
    """The text that `make` returns, called by the first process that asks for this name."""
    import fcntl

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers
    path = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            path.write_text(make())
    return path.read_text()
