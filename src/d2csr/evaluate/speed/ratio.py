"""Ratios of medians, with the interval that resampling the runs gives."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 4000


class Ratio(NamedTuple):
    """A ratio and the middle 95% of what resampled runs give."""

    value: float
    interval95: tuple[float, float]

    def times(self, factor: float) -> "Ratio":
        """Return the ratio in another unit."""
        low, high = self.interval95
        return Ratio(factor * self.value, (factor * low, factor * high))


def ratio_of_medians(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """Return the median of the one over the median of the other, runs resampled apart."""
    generator = np.random.default_rng(0)
    numerator, denominator = (
        np.median(np.array(runs)[generator.integers(len(runs), size=(_DRAWS, len(runs)))], axis=1)
        for runs in (over, under)
    )
    low, high = np.percentile(numerator / denominator, [2.5, 97.5])
    return Ratio(float(np.median(over) / np.median(under)), (float(low), float(high)))
