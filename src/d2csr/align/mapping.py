"""The mapping: where a position of the registered grid lies on the tele photograph.

The registered grid is the whole wide frame's, `scale` times finer: position X of it is
(X + 0.5) / scale - 0.5 on the wide photograph. Pixel centres lie at whole numbers. All parts
(lens, matrix, smooth warp, lens) are composed here, so that pixels are interpolated once.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from d2csr.align.lens import IDENTITY, Lens
from d2csr.align.mesh import Mesh
from d2csr.core.grid import Size

Points = Float64[np.ndarray, "*n 2"]


@dataclass(frozen=True)
class Mapping:
    """Registered grid to tele photograph: undo the wide lens, matrix, warp, tele lens.

    Attributes:
        scale: registered pixels to a wide one.
        wide: size of the wide frame.
        tele: size of the tele frame.
        matrix: homography between ideal positions, registered to tele.
        wide_lens: distortion of the wide photograph.
        tele_lens: distortion of the tele photograph.
        mesh: smooth warp added behind the matrix; None where it earned no place.
    """

    scale: int
    wide: Size
    tele: Size
    matrix: Float64[np.ndarray, "3 3"]
    wide_lens: Lens = IDENTITY
    tele_lens: Lens = IDENTITY
    mesh: Mesh | None = None

    def __call__(self, registered: Points) -> Points:
        """Return the tele positions of registered positions (x, y)."""
        return self.through_lens(self.before_lens(registered))

    def before_lens(self, registered: Points) -> Points:
        """Return the ideal tele positions, before the tele lens bends them."""
        ideal = project(self.matrix, self.ideal_wide(registered))
        return ideal if self.mesh is None else ideal + self.mesh.at(registered)

    def ideal_wide(self, registered: Points) -> Points:
        """Return registered positions with the wide lens undone."""
        return self.wide_lens.ideal(registered, self.wide.times(self.scale))

    def through_lens(self, ideal: Points) -> Points:
        """Return where ideal tele positions fall on the photograph."""
        return self.tele_lens.distorted(ideal, self.tele)

    def ideal_tele(self, tele: Points) -> Points:
        """Return positions of the tele photograph with its lens undone."""
        return self.tele_lens.ideal(tele, self.tele)

    def on_grid(
        self, x: Float64[np.ndarray, " w"], y: Float64[np.ndarray, " h"]
    ) -> Float64[np.ndarray, "h w 2"]:
        """Return the tele positions where registered columns x and rows y cross."""
        points = np.stack(np.meshgrid(x, y), axis=-1)
        ideal = project(self.matrix, self.ideal_wide(points))
        if self.mesh is not None:
            ideal = ideal + self.mesh.on_grid(x, y)
        return self.through_lens(ideal)

    def with_matrix(self, matrix: Float64[np.ndarray, "3 3"], mesh: Mesh | None) -> "Mapping":
        """Return the mapping with another matrix and warp, normalized."""
        return replace(self, matrix=matrix / matrix[2, 2], mesh=mesh)

    @property
    def tele_px_per_px(self) -> float:
        """Return how many tele pixels lie to a registered one, in the middle of the tele frame."""
        middle = project(np.linalg.inv(self.matrix), (np.array(self.tele, np.float64) - 1) / 2)
        return float(np.sqrt(abs(np.linalg.det(jacobian(self.matrix, middle)))))

    @property
    def ratio(self) -> float:
        """Return the true ratio of the focal lengths, in pixels: tele pixels to a wide one."""
        return self.tele_px_per_px * self.scale


def registered_of_wide(wide: Float64[np.ndarray, "*n"], scale: int) -> Float64[np.ndarray, "*n"]:
    """Return the positions on the registered grid of positions on the wide photograph."""
    return (wide + 0.5) * scale - 0.5


def project(matrix: Float64[np.ndarray, "3 3"], points: Points) -> Points:
    """Return points moved by a homography."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return moved[..., :2] / moved[..., 2:]


def jacobian(
    matrix: Float64[np.ndarray, "3 3"], point: Float64[np.ndarray, "2"]
) -> Float64[np.ndarray, "2 2"]:
    """Return the derivative of a homography at a point."""
    x, y, depth = matrix @ np.array([*point, 1.0])
    top = matrix[:2, :2] * depth - np.outer([x, y], matrix[2, :2])
    return top / depth**2
