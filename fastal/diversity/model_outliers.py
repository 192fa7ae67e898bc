"""Model-based outliers: rows with lower activations than the validation data."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastal import ops
from fastal.base.arrays import as_tensor
from fastal.base.checks import check_dtype, check_matrix
from fastal.base.errors import WrongWidth, prefixing_errors
from fastal.diversity.centroids import digest
from fastal.ops.reference import in_one_thread
from fastal.picks.picks import Picks
from fastal.pipeline.drive import gathered
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows
from fastal.sources import open_pool
from fastal.sources.files import in_column_order_of
from fastal.uncertainty import SelectOptions, select

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ValidationRank(Measure):
    """A measure: 1 - the mean rank of a row's activations among the validation activations.

    Scores are [n] float32 in [0, 1]. Larger means farther from the validation data, which is more
    worth labelling; see `model_outliers`. `fastal.select` and `fastal.Selector` take the measure as
    `by`.

    Args:
        validation: [V, D] activations, V >= 1, without NaN and +inf: an array, or any pool that
            `fastal.select` takes. It is held in memory as float32.

    Raises:
        ValueError, TypeError: bad validation data; the message names `validation`.

    Example:
        >>> import fastal, numpy as np
        >>> from fastal import diversity
        >>> validation = np.array([[0, 1], [2, 3], [4, 5]], np.float32)
        >>> x = np.array([[4, 5], [-1, 0], [0, 4]], np.float32)
        >>> picks = fastal.select(x, k=2, by=diversity.ValidationRank(validation))
        >>> picks.rows, picks.scores.round(2)
        (array([1, 2]), array([1.  , 0.75], dtype=float32))
    """

    kind = "activations"
    offers = ("triton", "native", "torch")
    invalid = "has NaN, +inf or no finite activation"

    def __init__(self, validation: Any) -> None:
        self._table = _table(validation)
        self._digest = digest(self._table)

    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless x is [n, D]."""
        check_matrix(x, self.kind, self.columns)
        if x.shape[1] != len(self._table):
            raise WrongWidth("validation", len(self._table), x.shape[1], self.kind)

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The scores of rows [n, D], [n] float32 from 0 to 1; NaN for invalid rows."""
        table = self._table if rows.backend == "triton" else self._table.to(rows.x.device)
        scores = 1 - ops.mean_ranks(rows.x, table, backend=rows.backend)
        return [scores], int(scores.isnan().sum())

    def identity(self) -> dict[str, Any]:
        """The digest of the validation data."""
        return {"validation": self._digest}


def model_outliers(pool: Any, validation: Any, k: int, **options: "Unpack[SelectOptions]") -> Picks:
    """The k rows whose activations rank lowest among validation data, in one pass, exact.

    An activation is ranked among the V sorted validation values of its neuron. The rank is 0 below
    the smallest value and 1 from the largest value on. Between two neighbouring values a < b, the
    rank is (i - 1 + fraction) / V. Here i is the number of values at or below the activation, with
    repeated values counted as often as they occur, and the fraction is the activation's position
    between a (0) and b (1). So if all values of a neuron are equal to c, the rank is 0 below c and
    1 from c on. The score of a row is 1 - the mean rank of its activations.

    Args:
        pool: activations [N, D] of any layer, or logits; any pool that `fastal.select` takes.
        validation: [V, D] activations of validation data, which should be like the training data:
            an array, or any pool that `fastal.select` takes. It is held in memory as float32.
        k: how many rows to pick, at least 1.
        options: the arguments of `fastal.select` that `SelectOptions` names. Rows with NaN, +inf or
            no finite value are invalid.

    Returns:
        Picks, best first. Scores are in [0, 1]; larger means farther from the validation data. Ties
        go to the lower row number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.2.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> validation = np.array([[0, 1], [2, 3], [4, 5]], np.float32)
        >>> x = np.array([[4, 5], [-1, 0], [0, 4]], np.float32)
        >>> picks = diversity.model_outliers(x, validation, k=2)
        >>> picks.rows, picks.scores.round(2)
        (array([1, 2]), array([1.  , 0.75], dtype=float32))
    """
    with prefixing_errors("validation"):
        validation = in_column_order_of(pool, validation)
    return select(pool, k, ValidationRank(validation), **options)


def _table(validation: Any) -> Tensor:
    """The validation values of each neuron in ascending order, [D, V] float32 on the host."""
    with prefixing_errors("validation"):
        parts = _parts(validation)
    if not sum(part.numel() for part in parts):
        raise ValueError("validation: wanted at least one row of one neuron, got none")
    # Threads of torch would spin for a while, beside those that look values up in the table.
    table = in_one_thread(lambda: torch.cat(parts).t().contiguous())
    table.numpy().sort(1)  # in place
    return table


def _parts(validation: Any) -> list[Tensor]:
    """The validation rows in float32, chunk by chunk, checked."""
    source = open_pool(validation)
    width: int | None = None

    def checked(chunk: Any) -> Tensor:
        nonlocal width
        x = as_tensor(chunk, "validation")
        if x.ndim != 2 or width not in (None, x.shape[1]):
            raise ValueError(f"wanted [rows, neurons], got {tuple(x.shape)} {x.dtype}")
        width = x.shape[1]
        check_dtype(x, "validation")
        return in_one_thread(lambda: x.to("cpu", torch.float32, copy=True))

    parts = gathered(source, checked)
    for start, part in parts:
        broken = (part.isnan() | (part == torch.inf)).any(1).nonzero()[:, 0]
        if len(broken):
            row = start + int(broken[0])
            where = source.locate(row) or f"row {row}"
            raise ValueError(f"validation: {where} has NaN, or +inf in float32")
    return [part for _, part in parts]
