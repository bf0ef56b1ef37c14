"""Where a point of the scene falls on a pixel grid, and back: pinhole, Brown's distortion, pose.

World: x to the right, y down, z away from the camera, metres; every plane of the scene is z = a
constant. Pixels: centres at whole numbers, the first at 0.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from d2csr.core.geometry import NO_DISTORTION, BrownDistortion, Points, Size


@dataclass(frozen=True)
class View:
    """One pixel grid before the scene.

    Attributes:
        size: of the grid.
        focal_px: focal length.
        corner_px: radius on which the distortion is stated.
        distortion: of the lens.
        turn_deg: about x (tilt), y (pan) and z (roll), in this order.
        position_m: of the camera.
    """

    size: Size
    focal_px: float
    corner_px: float
    distortion: BrownDistortion = NO_DISTORTION
    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def centre(self) -> Float64[np.ndarray, "2"]:
        """Return where the optical axis meets the grid: its middle."""
        return (np.array(self.size, np.float64) - 1) / 2

    @property
    def rotation(self) -> Float64[np.ndarray, "3 3"]:
        """Return the matrix that takes world directions to the camera's."""
        (cx, cy, cz), (sx, sy, sz) = (
            np.cos(np.radians(self.turn_deg)),
            np.sin(np.radians(self.turn_deg)),
        )
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        return about_z @ about_y @ about_x

    @property
    def intrinsics(self) -> Float64[np.ndarray, "3 3"]:
        """Return the camera matrix: focal length and centre, pixels."""
        (x, y), focal = self.centre, self.focal_px
        return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]])

    def times(self, scale: int) -> "View":
        """Return the same view on a grid `scale` times finer, pixel blocks on pixels."""
        return View(
            self.size.times(scale),
            self.focal_px * scale,
            self.corner_px * scale,
            self.distortion,
            self.turn_deg,
            self.position_m,
        )

    def on_plane(self, pixels: Points, distance_m: float) -> Points:
        """Return the x and y, in metres, that pixels see on the plane z = `distance_m`."""
        ideal = self.distortion.undistort((pixels - self.centre) / self.corner_px)
        camera = np.concatenate(
            [ideal * (self.corner_px / self.focal_px), np.ones((*ideal.shape[:-1], 1))], axis=-1
        )
        world = camera @ self.rotation  # the transposed matrix, applied from the left
        reach = (distance_m - self.position_m[2]) / world[..., 2:]
        return np.asarray(self.position_m[:2]) + world[..., :2] * reach

    def pixels(self, plane_m: Points, distance_m: float) -> Points:
        """Return the pixels on which points of the plane z = `distance_m` fall."""
        depth = np.full((*plane_m.shape[:-1], 1), distance_m)
        world = np.concatenate([plane_m, depth], axis=-1) - np.asarray(self.position_m)
        camera = world @ self.rotation.T
        ideal = camera[..., :2] / camera[..., 2:] * (self.focal_px / self.corner_px)
        return self.distortion.distort(ideal) * self.corner_px + self.centre

    def to_json(self) -> dict[str, Any]:
        """Return the view as plain JSON values."""
        return asdict(self) | {"size": list(self.size)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "View":
        """Return the view that `to_json` wrote."""
        return cls(
            size=Size(*values["size"]),
            focal_px=values["focal_px"],
            corner_px=values["corner_px"],
            distortion=BrownDistortion(**values["distortion"]),
            turn_deg=tuple(values["turn_deg"]),
            position_m=tuple(values["position_m"]),
        )


def plane_homography(
    source: View, target: View, *, distance_m: float
) -> Float64[np.ndarray, "3 3"]:
    """Return the matrix from pixels of one view to another's by a plane, distortion left out."""
    toward = np.array([0.0, 0.0, 1.0])
    reach = np.outer(source.position_m, toward) + (distance_m - source.position_m[2]) * np.eye(3)
    through = target.rotation @ (reach - np.outer(target.position_m, toward)) @ source.rotation.T
    matrix = target.intrinsics @ through @ np.linalg.inv(source.intrinsics)
    return matrix / matrix[2, 2]
