"""A temperature of the logits: the constants that it changes in the kernels.

A temperature T divides all differences of logits. The kernels leave logits as they are, and compute
their differences in units of logits. T is in the factors and limits of the exponentials, which the
kernels have anyway. So it costs nothing, and rounds no difference once more.
"""

import math
from typing import NamedTuple

import torch

# Limits at T = 1. Rows with a maximum beyond ±_USUAL are scored apart: see `wide.py`. In all other
# rows, a loser at _LEAST_REFERENCE contributes exactly 0. float16 has no room below _LEAST_HALF.
_USUAL, _USUAL_HALF = 2.0**19, 2.0**15
_LEAST_REFERENCE = -(2.0**20)
_LEAST_HALF = -65504.0
# Below this, e^d is exactly 0 in float32.
_FLOOR = -128.0


class AtTemperature(NamedTuple):
    """Constants of the kernels at a temperature T. Limits are in units of logits.

    In this order, the compiler loads them in pairs, and spills no register.
    """

    log2_e: float  # log2 e / T
    floor: float  # for differences: e^(d / T) is 0 below
    # -T log 2 in two parts. The first has 9 bits: products with whole numbers to 2^15 are exact.
    minus_ln_2_high: float
    minus_ln_2_low: float
    per_temperature: float  # 2^-64 / T
    ln_2: float  # T log 2
    least_reference: float
    usual: float  # for the maximum of a row; below 0 if no row is usual


def at_temperature(temperature: float, dtype: torch.dtype) -> AtTemperature:
    """The constants for logits of that dtype. Temperatures may be 1e-6 to 1e6."""
    ln_2 = temperature * math.log(2)
    mantissa, exponent = math.frexp(ln_2)
    ln_2_high = math.ldexp(round(mantissa * 512), exponent - 9)
    usual = _USUAL * temperature
    if dtype == torch.float16:
        # Losers are clamped at _LEAST_HALF, which must contribute 0 in usual rows.
        usual = min(usual, _USUAL_HALF, -_LEAST_HALF + _FLOOR * temperature)
    return AtTemperature(
        log2_e=1 / ln_2,
        ln_2=ln_2,
        minus_ln_2_high=-ln_2_high,
        minus_ln_2_low=ln_2_high - ln_2,
        floor=_FLOOR * temperature,
        per_temperature=2.0**-64 / temperature,
        least_reference=_LEAST_REFERENCE * temperature,
        usual=usual,
    )
