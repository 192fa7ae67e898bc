"""Shards in row order, whatever the order in which workers finish them."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from fastal.base.reducer import Reducer
from fastal.distributed.shard_reader import Found, Task
from fastal.distributed.shards import Shard

_AHEAD = 4  # shards for each worker that may be read before their turn
_LOSSES = 3  # of the state of a shard
_SECONDS = 0.2  # between two looks at signals and at progress


class Outcome(Protocol):
    """A shard that was read, or whose worker died.

    Attributes:
        place: the place of the shard.
        found: what was found; None if the worker died.
    """

    place: int
    found: Found | None

    def state(self) -> Any:
        """The state of the part that has read the shard.

        Raises:
            LookupError: it is lost, and the message says why.
        """


class Readers(Protocol):
    """Workers that read shards; see `fastal.distributed.ray_workers.RayWorkers`.

    Attributes:
        n: how many there are.
        has_room: whether one of them can be given a shard.
    """

    n: int

    @property
    def has_room(self) -> bool: ...  # noqa: D102

    def begin(self, part: Reducer[Any]) -> None:
        """Begins a pass: all workers get a part that has read no rows."""

    def submit(self, place: int, task: Task) -> None:
        """Gives a shard to a worker that has room."""

    def wait(self, seconds: float) -> Iterable[Outcome]:
        """The shards that were finished meanwhile; none if none was in so many seconds."""


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
        The findings of the next shard; None while the next shard is not finished.

    Raises:
        OSError: workers die again and again, or a state is lost again and again.
    """
    left = enumerate(shards)
    next_one = next(left, None)
    tasks: dict[int, Task] = {}  # by place, from the first try until the turn
    n_tries: Counter[int] = Counter()
    n_lost: Counter[int] = Counter()  # states that were lost with their machine
    settled: dict[int, tuple[Outcome, Found]] = {}
    again: deque[int] = deque()
    turn = 0
    while tasks or next_one is not None:
        while workers.has_room and (again or next_one is not None):
            if again:
                place = again.popleft()
                shard = tasks[place].shard
            elif next_one is not None and next_one[0] < turn + _AHEAD * workers.n:
                place, shard = next_one
                next_one = next(left, None)
            else:
                break
            tasks[place] = task_of(shard)
            workers.submit(place, tasks[place])
        for outcome in workers.wait(0 if turn in settled else _SECONDS):
            place, found = outcome.place, outcome.found
            if found is not None:
                n_tries[place] += 1
                if is_settled(tasks[place], found, n_tries[place]):
                    settled[place] = outcome, found
                    continue
            again.append(place)
        if turn not in settled:
            yield None
            continue
        outcome, found = settled.pop(turn)
        n_tries[turn] = 0  # it did not fail
        if is_stale(tasks[turn]):
            again.appendleft(turn)
            continue
        try:
            state = outcome.state()
        except LookupError as error:
            n_lost[turn] += 1
            if n_lost[turn] == _LOSSES:
                raise OSError(
                    f"engine: the state of a shard was lost again and again: {error}"
                ) from error
            again.appendleft(turn)
            continue
        task = tasks.pop(turn)
        del n_tries[turn]
        turn += 1
        yield task, found, state
