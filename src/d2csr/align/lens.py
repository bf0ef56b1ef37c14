"""Lens distortion: Brown's model about the middle of a frame, and where its figures come from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from d2csr.core.grid import Size

Points = Float64[np.ndarray, "*n 2"]


@dataclass(frozen=True)
class Lens:
    """Brown's distortion (1966) on radii given as shares of half the frame's diagonal.

    Attributes:
        k1: radial displacement at the corner, as a share of its radius; below 0 barrel.
        k2: the same, growing with the fourth power of the radius.
        k3: the same, growing with the sixth.
        p1: tangential, first.
        p2: tangential, second.
    """

    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Return whether the lens distorts nothing."""
        return self == IDENTITY

    def distorted(self, ideal: Points, frame: Size) -> Points:
        """Return where ideal positions of a frame fall through the lens, in pixels."""
        if self.is_identity:
            return ideal
        middle, corner = _middle_and_corner(frame)
        return self._bent((ideal - middle) / corner) * corner + middle

    def ideal(self, distorted: Points, frame: Size) -> Points:
        """Return the ideal positions that fall on these, in pixels, to 1e-8 of the diagonal."""
        if self.is_identity:
            return distorted
        middle, corner = _middle_and_corner(frame)
        wanted = (distorted - middle) / corner
        found = wanted
        for _ in range(60):
            miss = wanted - self._bent(found)
            found = np.clip(
                found + miss, -4, 4
            )  # a strong lens has no answer far outside its frame
            if np.abs(miss).max(initial=0.0) < 1e-8:
                break
        return found * corner + middle

    def _bent(self, point: Points) -> Points:
        x, y = point[..., 0], point[..., 1]
        square = x * x + y * y
        radial = 1 + square * (self.k1 + square * (self.k2 + square * self.k3))
        return np.stack(
            [
                x * radial + 2 * self.p1 * x * y + self.p2 * (square + 2 * x * x),
                y * radial + self.p1 * (square + 2 * y * y) + 2 * self.p2 * x * y,
            ],
            axis=-1,
        )


IDENTITY = Lens()


def _middle_and_corner(frame: Size) -> tuple[Float64[np.ndarray, " 2"], float]:
    return (np.array(frame, np.float64) - 1) / 2, float(np.hypot(*frame)) / 2
