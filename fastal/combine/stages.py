"""How the stages of a combined strategy read their pools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from fastal.base.checks import check_choice
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources import PathLike


class StageOptions(TypedDict, total=False):
    """The keyword arguments of `fastal.select` that every stage of a strategy takes."""

    on_invalid: str
    backend: str
    chunk_bytes: int | None
    checkpoint: PathLike | None
    resume: bool
    exclude: Any
    among: Any
    progress: bool


class UncertaintyOptions(StageOptions, total=False):
    """`StageOptions`, and those that say what the logits are."""

    kind: str
    temperature: float
    class_axis: int
    draws_axis: int | None
    aggregate: str | None


@dataclass(frozen=True)
class Stages:
    """The arguments of `fastal.select` that every stage of a strategy takes.

    Attributes:
        checkpoint: a folder, in which each stage has a folder of its own.
    """

    on_invalid: str = "raise"
    backend: str = "auto"
    chunk_bytes: int | None = None
    checkpoint: PathLike | None = None
    resume: bool = False
    exclude: Any = None
    among: Any = None
    progress: bool = False

    def __post_init__(self) -> None:
        self.scoring  # noqa: B018 (checks it)
        self.run("")

    @property
    def scoring(self) -> ScoringOptions:
        """How the measures of all stages are applied."""
        return ScoringOptions(self.on_invalid, self.backend)

    def run(self, stage: str, *, exclude: Any = None, among: Any = None) -> RunOptions:
        """How a stage reads its pool.

        Args:
            stage: its name, which is that of its folder.
            exclude: the rows that it passes over.
            among: the only rows that it reads.
        """
        folder = None if self.checkpoint is None else Path(self.checkpoint) / stage
        return RunOptions(self.chunk_bytes, folder, self.resume, exclude, among, self.progress)

    def check_backend(self, offers: tuple[str, ...]) -> None:
        """ValueError unless one of these backends, which all stages have, is asked for."""
        check_choice("backend", self.backend, ("auto", *offers))


@dataclass(frozen=True)
class UncertaintyStages(Stages):
    """`Stages` of which one scores the output of a model; see `ModelOutput`."""

    kind: str = "logits"
    temperature: float = 1.0
    class_axis: int = -1
    draws_axis: int | None = None
    aggregate: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.output  # noqa: B018 (checks it)

    @property
    def output(self) -> ModelOutput:
        """What the model puts out."""
        return ModelOutput(
            self.kind, self.temperature, self.class_axis, self.draws_axis, self.aggregate
        )
