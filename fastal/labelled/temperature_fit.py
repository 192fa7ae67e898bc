"""The result of temperature scaling."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TemperatureFit:
    """The temperature that labelled rows fit best, and what it changes; see `fit_temperature`.

    `float` of it is the temperature.

    The expected calibration error is that of the paper, with 15 bins of equal width. The confidence
    of a row is its largest probability p. Bin m has the rows with (m - 1) / 15 < p <= m / 15, in
    float64: a confidence on an edge belongs to the lower bin. The gap of a bin is the distance
    between its accuracy, the share of its rows whose predicted class is the label, and its mean
    confidence. The error is the mean gap, each bin weighted by its number of rows. If several
    classes have the largest logit, the first of them is the predicted one.

    Attributes:
        temperature: T > 0. Divide logits by it. Above 1, the model was too confident.
        loss_before: the mean negative log-likelihood of the labels in nats, at T = 1.
        loss_after: the same at the temperature; at most `loss_before`, within rounding.
        calibration_error_before: the expected calibration error at T = 1, from 0 to 1; 0 is best.
        calibration_error_after: the same at the temperature. It may be larger than before: the
            temperature minimises the loss.
        n_rows: how many rows were used.
        unlabelled: how many rows were left out because their label is None.
        invalid: how many labelled rows were left out as invalid.

    Example:
        >>> import fastal, numpy as np
        >>> fit = fastal.fit_temperature(np.array([[2.0, 0.0]] * 4), labels=[0, 0, 0, 1])
        >>> round(float(fit), 3), fit.n_rows
        (1.82, 4)
    """

    temperature: float
    loss_before: float
    loss_after: float
    calibration_error_before: float
    calibration_error_after: float
    n_rows: int
    unlabelled: int
    invalid: int

    def __float__(self) -> float:
        return self.temperature
