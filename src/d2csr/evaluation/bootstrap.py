"""Bootstrap intervals of means, and of paired differences between two systems."""

import math

import numpy as np
from jaxtyping import Float

DRAWS = 10_000
SEED = 0


def interval95(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the 95% interval of the mean: percentiles over `DRAWS` resamples of the images.

    The seed is fixed, so that a table repeats itself. The ends are means that were drawn, never
    something between two, which keeps infinite values apart from the others.
    """
    generator = np.random.default_rng(SEED)
    drawn = generator.integers(len(values), size=(DRAWS, len(values)))
    with np.errstate(invalid="ignore"):  # inf - inf: the mean is nan, and said to be so
        means = np.sort(values[drawn].mean(axis=1))
    if np.isnan(means[-1]):
        return math.nan, math.nan
    return float(means[math.floor(0.025 * (DRAWS - 1))]), float(
        means[math.ceil(0.975 * (DRAWS - 1))]
    )


def paired_differences(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return `first - second` per image; 0 where both are infinite, as both are perfect there."""
    with np.errstate(invalid="ignore"):
        return np.where(first == second, 0.0, first - second)


def mean(values: Float[np.ndarray, " n"]) -> float:
    """Return the mean; nan where opposite infinities meet."""
    with np.errstate(invalid="ignore"):
        return float(values.mean())
