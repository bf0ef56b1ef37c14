"""Strength: how much of what a model adds to the bicubic enlargement is kept.

With SR and the bicubic enlargement B before rounding, the result is B + strength * (SR - B): 0 is
the bicubic enlargement, 1 the model's SR, and more exaggerates it.
"""

from typing import Final, final

import numpy as np
from jaxtyping import Float32

from d2csr.core.errors import UsageError
from d2csr.images.resize import ResizedImage

MODEL_STRENGTH: Final = 1.0
MAX_STRENGTH: Final = 1.5

SrRows = Float32[np.ndarray, "rows sw 3"]


def check_strength(strength: float) -> None:
    """Check the range of a strength.

    Raises:
        UsageError: it isn't a number from 0 to `MAX_STRENGTH`.
    """
    if not 0 <= strength <= MAX_STRENGTH:
        remedy = f"Give a number from 0 (bicubic) to {MAX_STRENGTH}; 1 is the model's result."
        raise UsageError("--strength", f"can't be {strength:g}", remedy)


@final
class StrengthBlend:
    """The blend of one image's SR with its bicubic enlargement, as rows of SR arrive."""

    def __init__(self, bicubic: ResizedImage, *, strength: float) -> None:
        """Hold the enlargement, which has the size of SR.

        Raises:
            UsageError: the strength is out of range.
        """
        check_strength(strength)
        self._bicubic, self._strength = bicubic, strength

    def blend(self, sr01: SrRows, *, first_row: int) -> SrRows:
        """Return rows of the result; at strength 1 these are the rows of SR, unchanged.

        Args:
            sr01: rows of the model's SR, range 0 to 1, not clipped.
            first_row: the row of SR at which they begin.
        """
        if self._strength == MODEL_STRENGTH:
            return sr01
        blended, start = np.empty_like(sr01), 0
        for base in self._bicubic.iter_rows01(first_row, first_row + len(sr01)):
            rows = slice(start, start + len(base))
            detail = sr01[rows] - base
            detail *= np.float32(self._strength)
            np.add(base, detail, out=blended[rows])
            start = rows.stop
        return blended
