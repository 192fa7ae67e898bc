"""Shards in row order, whatever the order in which workers finish them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from fastal.distributed.shard_reader import Found, Task
from fastal.distributed.shards import Shard

_AHEAD = 4  # shards for each worker that may be read before their turn


class Outcome(Protocol):
    """A shard that a worker has read, or has died of.

    Attributes:
        place: the place of the shard.
        found: what was found; None if the worker died.
    """

    place: int
    found: Found | None

    def state(self) -> Any:
        """The state of the part that has read the shard.

        Raises:
            LookupError: it is lost.
        """


class Readers(Protocol):
    """Workers that read shards; see `fastal.distributed.workers.Workers`.

    Attributes:
        n: how many there are.
        has_room: whether one of them can be given a shard.
    """

    n: int

    @property
    def has_room(self) -> bool: ...  # noqa: D102

    def submit(self, place: int, task: Task) -> None:
        """Gives a shard to a worker that has room."""

    def wait(self) -> Iterable[Outcome]:
        """The shards that were finished meanwhile; none after a short time in which none was."""


def in_order(
    workers: Readers,
    shards: Iterable[Shard],
    task_of: Callable[[Shard], Task],
    *,
    is_settled: Callable[[Task, Found, int], bool],
    is_stale: Callable[[Task], bool],
) -> Iterator[tuple[Task, Found, Any] | None]:
    """What was found in each shard, in the order of the shards, with the state of its part.

    Args:
        workers: read the shards.
        shards: what to read.
        task_of: makes the task of a shard, when a worker can read it.
        is_settled: whether what was found counts. If not, the shard is read again. It gets the
            number of tries too.
        is_stale: whether a shard has to be read again, now that its turn has come.

    Yields:
        The findings of the next shard; None now and then, while they are not there.

    Raises:
        OSError: workers die again and again.
    """
    left = enumerate(shards)
    next_one = next(left, None)
    tasks: dict[int, Task] = {}  # by place, from the first try until the turn
    n_tries: dict[int, int] = {}
    settled: dict[int, Outcome] = {}
    again: deque[int] = deque()
    turn = 0
    while tasks or next_one is not None:
        while workers.has_room and (again or next_one is not None):
            if again:
                place = again.popleft()
                shard = tasks[place].shard
            elif next_one is not None and next_one[0] < turn + _AHEAD * workers.n:
                place, shard = next_one
                n_tries[place] = 0
                next_one = next(left, None)
            else:
                break
            tasks[place] = task_of(shard)
            workers.submit(place, tasks[place])
        for outcome in workers.wait():
            place = outcome.place
            if outcome.found is not None:
                n_tries[place] += 1
                if is_settled(tasks[place], outcome.found, n_tries[place]):
                    settled[place] = outcome
                    continue
            again.append(place)
        while turn in settled:
            outcome, task = settled.pop(turn), tasks[turn]
            try:
                state = None if is_stale(task) else (outcome.state(),)
            except LookupError:
                state = None
            if state is None or outcome.found is None:
                n_tries[turn] = 0  # it did not fail
                again.appendleft(turn)
                break
            del tasks[turn], n_tries[turn]
            turn += 1
            yield task, outcome.found, state[0]
        yield None
