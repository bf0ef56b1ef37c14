"""Color transfer: brightness and colors of the tele image matched to the wide image.

A channel v becomes c0 + c1 v + c2 v^2 + v (c3 x + c4 y + c5 x^2 + c6 x y + c7 y^2), on
stored sRGB values. The first three terms model exposure, white balance and tone curve; the terms in
x and y model the vignetting of both lenses.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from d2csr.core.geometry import Region

ROBUST_ITERATIONS = 4
RIDGE = 1e-3  # regularization towards a plain gain
# Relative regularization of each coefficient: few tones or a small field can't separate them.
STIFFNESS = np.array([0.05, 0.0, 1.0, 0.3, 0.3, 1.0, 1.0, 1.0])
CLIPPED = (0.01, 0.985)  # values outside are under- or overexposed


@dataclass(frozen=True)
class ColorTransfer:
    """Color transfer function of each channel over a region of the registered grid.

    Attributes:
        region: part of the grid in which x and y run from -1 to 1.
        coefficients: eight per channel.
    """

    region: Region
    coefficients: Float64[np.ndarray, "c 8"]

    def apply(
        self,
        values: Float32[np.ndarray, "h w c"],
        x: Float[np.ndarray, " w"],
        *,
        y: Float[np.ndarray, " h"],
    ) -> Float32[np.ndarray, "h w c"]:
        """Return the transferred values, from values 0..1 at registered columns x and rows y."""
        across, down = _normalize(self.region, x, y=y)
        result = np.empty_like(values)
        for channel, c in enumerate(self.coefficients.astype(np.float32)):
            field = (c[3] * across + c[5] * across**2)[None] + (
                (c[4] * down + c[7] * down**2)[:, None] + c[6] * down[:, None] * across[None]
            )
            v = values[..., channel]
            result[..., channel] = c[0] + v * (c[1] + c[2] * v + field)
        return result

    @property
    def gains(self) -> tuple[float, ...]:
        """Return the slope of each channel at mid gray in the centre of the region."""
        return tuple(float(c[1] + c[2]) for c in self.coefficients)


def fit_color_transfer(
    tele: Float32[np.ndarray, "h w c"],
    wide: Float32[np.ndarray, "h w c"],
    *,
    x: Float[np.ndarray, " w"],
    y: Float[np.ndarray, " h"],
    region: Region,
) -> ColorTransfer:
    """Return the color transfer from the tele image to the wide one, both on one coarse grid.

    Args:
        tele: values 0..1.
        wide: values 0..1.
        x: registered columns of the grid.
        y: registered rows of the grid.
        region: part of the registered grid that x and y are normalized to.
    """
    across, down = _normalize(region, x, y=y)
    across, down = (part.ravel() for part in np.meshgrid(across, down))
    rows = [
        _fit_channel(tele[..., channel].ravel(), wide[..., channel].ravel(), x=across, y=down)
        for channel in range(tele.shape[2])
    ]
    return ColorTransfer(region, np.stack(rows))


def _fit_channel(
    v: np.ndarray, goal: np.ndarray, *, x: np.ndarray, y: np.ndarray
) -> Float64[np.ndarray, " 8"]:
    """Return the coefficients of a channel: least squares with Geman and McClure's weights."""
    v, goal = v.astype(np.float64), goal.astype(np.float64)
    inside = (np.minimum(v, goal) > CLIPPED[0]) & (np.maximum(v, goal) < CLIPPED[1])
    if inside.sum() < 32:
        return np.eye(8)[1]
    v, goal, x, y = v[inside], goal[inside], x[inside], y[inside]
    terms = np.stack([np.ones_like(v), v, v * v, v * x, v * y, v * x * x, v * x * y, v * y * y], -1)
    gain = float((v * goal).sum() / (v * v).sum())
    start = gain * np.eye(8)[1]
    ridge = np.diag(RIDGE * STIFFNESS * len(v) * float((v * v).mean()))
    coefficients = start
    for _ in range(ROBUST_ITERATIONS):
        residual = goal - terms @ coefficients
        spread = max(1.48 * float(np.median(np.abs(residual))), 1e-3)
        weight = (9 / (9 + (residual / spread) ** 2)) ** 2
        normal = (terms * weight[:, None]).T @ terms + ridge
        coefficients = start + np.linalg.solve(
            normal, (terms * weight[:, None]).T @ (goal - terms @ start)
        )
    slopes = coefficients[1] + 2 * coefficients[2] * np.array([0.0, 1.0])
    return coefficients if (slopes > 0.2 * gain).all() else start


def _normalize(
    region: Region, x: Float[np.ndarray, " w"], *, y: Float[np.ndarray, " h"]
) -> tuple[np.ndarray, np.ndarray]:
    across = (x - region.left) / max(region.width - 1, 1) * 2 - 1
    down = (y - region.top) / max(region.height - 1, 1) * 2 - 1
    return across.astype(np.float32), down.astype(np.float32)
