"""The smooth warp: a cubic B-spline mesh of few cells, laid over the registered grid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from d2csr.align.region import Region

# Matrix of the uniform cubic B-spline: rows are powers of the place in the cell.
_BASIS = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6.0


@dataclass(frozen=True)
class Mesh:
    """Displacements in tele pixels, over a region of the registered grid; beyond it held constant.

    Attributes:
        region: what the mesh spans.
        values: displacement at the control points, (rows, columns, xy); cells + 3 a side.
    """

    region: Region
    values: Float64[np.ndarray, "rows columns 2"]

    @property
    def cells(self) -> tuple[int, int]:
        """Return the number of cells down and across."""
        return self.values.shape[0] - 3, self.values.shape[1] - 3

    def at(self, points: Float64[np.ndarray, "*n 2"]) -> Float64[np.ndarray, "*n 2"]:
        """Return the displacements at positions of the registered grid."""
        flat = points.reshape(-1, 2)
        across = weights(
            flat[:, 0], self.region.left, length=self.region.width, cells=self.cells[1]
        )
        down = weights(flat[:, 1], self.region.top, length=self.region.height, cells=self.cells[0])
        return np.einsum("nr,rcd,nc->nd", down, self.values, across).reshape(points.shape)

    def on_grid(
        self, x: Float64[np.ndarray, " w"], y: Float64[np.ndarray, " h"]
    ) -> Float64[np.ndarray, "h w 2"]:
        """Return the displacements where columns x and rows y cross; far cheaper than `at`."""
        across = weights(x, self.region.left, length=self.region.width, cells=self.cells[1])
        down = weights(y, self.region.top, length=self.region.height, cells=self.cells[0])
        return np.stack([down @ self.values[..., axis] @ across.T for axis in (0, 1)], axis=-1)


def weights(
    places: Float64[np.ndarray, " n"], start: float | int, *, length: float | int, cells: int
) -> Float64[np.ndarray, "n points"]:
    """Return the weight of each of the cells + 3 control points of one axis at these places."""
    scaled = np.clip((places - start) / length, 0.0, 1.0) * cells
    cell = np.minimum(scaled.astype(np.int64), cells - 1)
    powers = (scaled - cell)[:, None] ** np.arange(4)
    result = np.zeros((len(places), cells + 3))
    rows = np.arange(len(places))
    for offset, column in enumerate((powers @ _BASIS).T):
        result[rows, cell + offset] = column
    return result


def basis(
    points: Float64[np.ndarray, "n 2"], region: Region, *, cells: tuple[int, int]
) -> Float64[np.ndarray, "n points"]:
    """Return the weight of every control point, row by row, at each position."""
    down = weights(points[:, 1], region.top, length=region.height, cells=cells[0])
    across = weights(points[:, 0], region.left, length=region.width, cells=cells[1])
    return (down[:, :, None] * across[:, None, :]).reshape(len(points), -1)


def roughness(cells: tuple[int, int]) -> Float64[np.ndarray, "points points"]:
    """Return the matrix whose quadratic form is the sum of squared third differences.

    Third, so that what a homography leaves over on a small field (quadratic) costs nothing.
    """
    rows, columns = cells[0] + 3, cells[1] + 3
    down = np.kron(np.diff(np.eye(rows), 3, axis=0), np.eye(columns))
    across = np.kron(np.eye(rows), np.diff(np.eye(columns), 3, axis=0))
    return down.T @ down + across.T @ across
