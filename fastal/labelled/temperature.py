"""Temperature scaling: the temperature that labelled rows fit best."""

from typing import Any

from fastal.labelled.given_labels import with_labels
from fastal.labelled.temperature_fit import TemperatureFit
from fastal.labelled.temperature_search import TemperatureSearch
from fastal.pipeline.engine import Engine
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.sources import open_pool


def fit_temperature(
    logits: Any,
    labels: Any,
    *,
    kind: str = "logits",
    on_invalid: str = "raise",
    chunk_bytes: int | None = None,
    progress: bool = False,
    engine: str | Engine = "local",
) -> TemperatureFit:
    """The T > 0 that minimises the mean negative log-likelihood of softmax(logits / T).

    The loss is convex in 1 / T. Its minimum is found to a relative 1e-6 of T, by Newton's method in
    float64 within a bracket. The pool is read a few times: usually three, at most 12 times. The
    result is the same bits for any chunks. Losses are computed on the CPU, also for rows on a GPU.

    Dividing by T does not change the predicted classes. It changes all scores of uncertainty, and
    also which rows are the most uncertain: `fastal.select(logits, k, temperature=fit.temperature)`.

    Args:
        logits: rows [N, C] with C >= 2 that the model was not trained on; any pool that
            `fastal.select` takes and that can be read several times. -inf excludes a class.
        labels: the classes of the rows: [N] integers from 0 to C - 1, as an array or a list; or a
            .parquet, .csv or .npy file with a column `label`, `cluster` or `group`, matched as for
            `label_quality`. Rows whose label is None, a null or an empty field are left out and
            counted. None in place of all labels: the pool's own (`group_column` of `open_pool`).
        kind: what the rows hold: "logits" or "log_probs".
        on_invalid: "raise" at the first chunk with an invalid row that has a label, or "skip" to
            leave such rows out and count them. A row is invalid if it has NaN, +inf or no finite
            value.
        chunk_bytes: as for `fastal.select`.
        progress: as for `fastal.select`.
        engine: as for `fastal.select`.

    Returns:
        The temperature, and the loss and the calibration error without and with it. If all labels
        are of one class, a warning is logged: the temperature suits that class alone.

    Raises:
        InvalidRows: with on_invalid="raise".
        ValueError: no temperature is best. If each label has the largest logit of its row, the loss
            falls as T falls to 0. If predictions are no better than chance, it falls as T grows
            without end. Or there is no row with a label; a label is text, a bool, or not from 0 to
            C - 1; or the logit of a label is -inf. The message names the row of such a label.
        ValueError, TypeError, OSError: a bad argument or file; the message names it.

    Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks (ICML 2017),
    sections 2 and 4.2.

    Example:
        >>> import fastal, numpy as np
        >>> logits = np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 0.0]])
        >>> fit = fastal.fit_temperature(logits, labels=[0, 1, 0, 1])
        >>> round(fit.temperature, 3), round(fit.loss_before, 3), round(fit.loss_after, 3)
        (3.641, 1.018, 0.562)
    """
    search = TemperatureSearch(kind, on_invalid)
    pool = with_labels(open_pool(logits), labels)
    options = RunOptions(chunk_bytes, progress=progress, engine=engine)
    return run_on_pool(search, pool, options, lambda fit, _: fit)
