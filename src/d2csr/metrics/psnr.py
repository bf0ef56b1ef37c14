"""Peak signal-to-noise ratio of arrays that are already cut and converted."""

import math

import numpy as np
from jaxtyping import Float


def psnr_db(
    first: Float[np.ndarray, "..."], second: Float[np.ndarray, "..."], *, peak: float
) -> float:
    """Return 10 log10(peak^2 / mean squared error) in dB; inf where the two agree exactly."""
    return decibels(float(np.mean(np.square(first - second))), peak=peak)


def decibels(mean_squared_error: float, *, peak: float) -> float:
    """Return a mean squared error as PSNR in dB; inf for no error at all."""
    if mean_squared_error == 0:
        return math.inf
    return 10 * math.log10(peak * peak / mean_squared_error)
