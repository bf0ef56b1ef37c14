"""Mapping from the registered grid to the tele photograph: field, lenses, homography and mesh.

The registered grid covers the whole wide frame and is `scale` times finer: its position X is
(X + 0.5) / scale - 0.5 on the wide photograph. Pixel centres are at whole numbers. The parts of the
mapping are composed as coordinates, so that pixels are interpolated only once.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from d2csr.align.registration.field import DisplacementField
from d2csr.align.registration.lens import distort, undistort
from d2csr.core.geometry import NO_DISTORTION, BrownDistortion, Region, Size

# Matrix of the uniform cubic B-spline: rows are powers of the position in the cell.
_BASIS = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6.0


@dataclass(frozen=True)
class Mesh:
    """Cubic B-spline of displacements over a region of the registered grid, constant outside it.

    Attributes:
        region: part of the grid that the mesh spans.
        values: displacements of the control points in tele pixels, (rows, columns, xy); cells + 3
            along each axis.
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
        """Return the displacements on the grid of columns x and rows y; far cheaper than `at`."""
        across = weights(x, self.region.left, length=self.region.width, cells=self.cells[1])
        down = weights(y, self.region.top, length=self.region.height, cells=self.cells[0])
        return np.stack([down @ self.values[..., axis] @ across.T for axis in (0, 1)], axis=-1)


def weights(
    positions: Float64[np.ndarray, " n"], start: float | int, *, length: float | int, cells: int
) -> Float64[np.ndarray, "n points"]:
    """Return the weight of each of the cells + 3 control points of an axis at each position."""
    scaled = np.clip((positions - start) / length, 0.0, 1.0) * cells
    cell = np.minimum(scaled.astype(np.int64), cells - 1)
    powers = (scaled - cell)[:, None] ** np.arange(4)
    result = np.zeros((len(positions), cells + 3))
    rows = np.arange(len(positions))
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

    Third differences don't penalize the quadratic residual of a homography on a small field.
    """
    rows, columns = cells[0] + 3, cells[1] + 3
    down = np.kron(np.diff(np.eye(rows), 3, axis=0), np.eye(columns))
    across = np.kron(np.eye(rows), np.diff(np.eye(columns), 3, axis=0))
    return down.T @ down + across.T @ across


Points = Float64[np.ndarray, "*n 2"]


@dataclass(frozen=True)
class Mapping:
    """Mapping from the registered grid to the tele photograph.

    Adds the field, undoes the wide lens, applies homography and mesh, then applies the tele lens.

    Attributes:
        scale: registered pixels per wide pixel, along one axis.
        wide: size of the wide frame.
        tele: size of the tele frame.
        matrix: homography between ideal positions, registered to tele.
        wide_lens: distortion of the wide photograph.
        tele_lens: distortion of the tele photograph.
        mesh: displacements added after the matrix; None without a mesh.
        field: displacements of wide pixels, added before all else; None if registration is global.
    """

    scale: int
    wide: Size
    tele: Size
    matrix: Float64[np.ndarray, "3 3"]
    wide_lens: BrownDistortion = NO_DISTORTION
    tele_lens: BrownDistortion = NO_DISTORTION
    mesh: Mesh | None = None
    field: DisplacementField | None = None

    def __call__(self, registered: Points) -> Points:
        """Return the tele positions of registered positions (x, y)."""
        if self.field is not None:
            wide = wide_of_registered(registered, self.scale)
            registered = registered + self.scale * self.field.at(wide)
        return self.through_lens(self.before_lens(registered))

    def before_lens(self, registered: Points) -> Points:
        """Return the ideal tele positions, before distortion by the tele lens."""
        ideal = project(self.matrix, self.ideal_wide(registered))
        return ideal if self.mesh is None else ideal + self.mesh.at(registered)

    def ideal_wide(self, registered: Points) -> Points:
        """Return registered positions without the distortion of the wide lens."""
        return undistort(registered, self.wide_lens, frame=self.wide.times(self.scale))

    def through_lens(self, ideal: Points) -> Points:
        """Return ideal tele positions with the distortion of the tele lens."""
        return distort(ideal, self.tele_lens, frame=self.tele)

    def ideal_tele(self, tele: Points) -> Points:
        """Return positions on the tele photograph without the distortion of its lens."""
        return undistort(tele, self.tele_lens, frame=self.tele)

    def on_grid(
        self, x: Float64[np.ndarray, " w"], y: Float64[np.ndarray, " h"]
    ) -> Float64[np.ndarray, "h w 2"]:
        """Return the tele positions of the grid of registered columns x and rows y."""
        points = np.stack(np.meshgrid(x, y), axis=-1)
        if self.field is not None:
            wide = (wide_of_registered(each, self.scale) for each in (x, y))
            return self.through_lens(
                self.before_lens(points + self.scale * self.field.on_grid(*wide))
            )
        ideal = project(self.matrix, self.ideal_wide(points))
        if self.mesh is not None:
            ideal = ideal + self.mesh.on_grid(x, y)
        return self.through_lens(ideal)

    def with_matrix(self, matrix: Float64[np.ndarray, "3 3"], mesh: Mesh | None) -> "Mapping":
        """Return a copy with another matrix, normalized, and another mesh."""
        return replace(self, matrix=matrix / matrix[2, 2], mesh=mesh)

    @property
    def tele_px_per_px(self) -> float:
        """Return the tele pixels per registered pixel in the centre of the tele frame."""
        middle = project(np.linalg.inv(self.matrix), (np.array(self.tele, np.float64) - 1) / 2)
        return float(np.sqrt(abs(np.linalg.det(jacobian(self.matrix, middle)))))

    @property
    def ratio(self) -> float:
        """Return the ratio of the focal lengths in pixels: tele pixels per wide pixel."""
        return self.tele_px_per_px * self.scale


def registered_of_wide(wide: Float64[np.ndarray, "*n"], scale: int) -> Float64[np.ndarray, "*n"]:
    """Return the positions on the registered grid of positions on the wide photograph."""
    return (wide + 0.5) * scale - 0.5


def wide_of_registered(
    registered: Float64[np.ndarray, "*n"], scale: int
) -> Float64[np.ndarray, "*n"]:
    """Return the positions on the wide photograph of positions on the registered grid."""
    return (registered + 0.5) / scale - 0.5


def project(matrix: Float64[np.ndarray, "3 3"], points: Points) -> Points:
    """Return points transformed by a homography."""
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    return homogeneous[..., :2] / homogeneous[..., 2:]


def jacobian(
    matrix: Float64[np.ndarray, "3 3"], point: Float64[np.ndarray, "2"]
) -> Float64[np.ndarray, "2 2"]:
    """Return the derivative of a homography at a point."""
    x, y, depth = matrix @ np.array([*point, 1.0])
    top = matrix[:2, :2] * depth - np.outer([x, y], matrix[2, :2])
    return top / depth**2


COVERAGE_STEP_PX = 4  # distance of the wide positions at which coverage is tested


def covered_region(mapping: Mapping, *, margin_px: float) -> Region:
    """Return the largest rectangle of the wide frame that the tele frame covers, in whole pixels.

    Args:
        mapping: from the registered grid to the tele photograph.
        margin_px: tele pixels required around the rectangle, for the taps of the interpolation.
    """
    x = _sample_axis(mapping.wide.width)
    y = _sample_axis(mapping.wide.height)
    positions = mapping.on_grid(
        registered_of_wide(x, mapping.scale), registered_of_wide(y, mapping.scale)
    )
    last = np.array(mapping.tele, np.float64) - 1 - margin_px
    inside = np.all((positions >= margin_px) & (positions <= last), axis=-1)
    top, bottom, left, right = _largest_rectangle(inside)
    if bottom <= top or right <= left:
        return Region(0, 0, 0, 0)
    columns, rows = x[left:right], y[top:bottom]
    first_x, first_y = int(np.ceil(columns[0])), int(np.ceil(rows[0]))
    return Region(first_x, first_y, int(columns[-1]) - first_x + 1, int(rows[-1]) - first_y + 1)


def _sample_axis(length: int) -> Float64[np.ndarray, " n"]:
    """Return whole positions from the first pixel to the last, about `COVERAGE_STEP_PX` apart."""
    steps = max(2, -(-(length - 1) // COVERAGE_STEP_PX) + 1)
    return np.unique(np.round(np.linspace(0, length - 1, steps)))


def _largest_rectangle(inside: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of the largest all-true rectangle: histogram method."""
    heights = np.zeros(inside.shape[1], np.int64)
    best, result = 0, (0, 0, 0, 0)
    for row, line in enumerate(inside):
        heights = np.where(line, heights + 1, 0)
        stack: list[tuple[int, int]] = []  # start and height of each open rectangle
        for column, height in enumerate([*heights.tolist(), 0]):
            start = column
            while stack and stack[-1][1] >= height:
                start, tall = stack.pop()
                if (area := (column - start) * tall) > best:
                    best, result = area, (row - tall + 1, row + 1, start, column)
            stack.append((start, height))
    return result
