"""How a reducer is run over a pool, and over which of its rows."""

from dataclasses import dataclass
from typing import Any

from fastal.base.checks import checked_count
from fastal.pipeline.engine import Engine
from fastal.sources import PathLike


@dataclass(frozen=True)
class RunOptions:
    """How a reducer is run over a pool, and over which of its rows.

    Attributes:
        chunk_bytes: how many bytes of the pool to read at once; None: the pipeline decides.
        checkpoint: the folder to save the state in; None: the state is not saved.
        resume: continue from the folder's checkpoint, if there is one.
        exclude: the rows that the reducer passes over; see `row_choice`.
        among: the only rows that it reads; see `row_choice`.
        progress: show progress on stderr, and a summary at the end.
        engine: who reads the pool; see `engine_for`.
    """

    chunk_bytes: int | None = None
    checkpoint: PathLike | None = None
    resume: bool = False
    exclude: Any = None
    among: Any = None
    progress: bool = False
    engine: str | Engine = "local"

    def __post_init__(self) -> None:
        if self.chunk_bytes is not None:
            checked_count("chunk_bytes", self.chunk_bytes)
        if self.resume and self.checkpoint is None:
            raise ValueError("resume: wanted checkpoint, the folder to resume from")
