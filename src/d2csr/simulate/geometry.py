"""Camera geometry: projection of scene planes to a pixel grid and back (pinhole, distortion, pose).

World coordinates: x to the right, y down, z away from the camera, in metres; every plane of the
scene has a constant z. Pixel coordinates: centres at whole numbers, the first at 0.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from d2csr.core.geometry import NO_DISTORTION, BrownDistortion, Points, Size


@dataclass(frozen=True)
class View:
    """A pixel grid, and the camera that it belongs to.

    Attributes:
        size: of the grid.
        focal_px: focal length.
        corner_px: radius that distortion is relative to.
        distortion: of the lens.
        rotation_deg: of the camera about x (tilt), y (pan) and z (roll), in this order.
        position_m: of the camera.
    """

    size: Size
    focal_px: float
    corner_px: float
    distortion: BrownDistortion = NO_DISTORTION
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def centre(self) -> Float64[np.ndarray, "2"]:
        """Return the position of the optical axis on the grid, which is its middle."""
        return (np.array(self.size, np.float64) - 1) / 2

    @property
    def rotation(self) -> Float64[np.ndarray, "3 3"]:
        """Return the matrix from world directions to camera directions."""
        (cx, cy, cz), (sx, sy, sz) = (
            np.cos(np.radians(self.rotation_deg)),
            np.sin(np.radians(self.rotation_deg)),
        )
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        return about_z @ about_y @ about_x

    @property
    def intrinsics(self) -> Float64[np.ndarray, "3 3"]:
        """Return the camera matrix, in pixels."""
        (x, y), focal = self.centre, self.focal_px
        return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]])

    def times(self, scale: int) -> "View":
        """Return the same view on a grid `scale` times finer, whose blocks coincide with pixels."""
        return View(
            self.size.times(scale),
            self.focal_px * scale,
            self.corner_px * scale,
            self.distortion,
            self.rotation_deg,
            self.position_m,
        )

    def on_plane(self, pixels: Points, distance_m: float) -> Points:
        """Return the points (x, y), in metres, that pixels see on the plane z = `distance_m`."""
        ideal = self.distortion.undistort((pixels - self.centre) / self.corner_px)
        camera = np.concatenate(
            [ideal * (self.corner_px / self.focal_px), np.ones((*ideal.shape[:-1], 1))], axis=-1
        )
        world = camera @ self.rotation  # of row vectors: applies the transpose
        depth = (distance_m - self.position_m[2]) / world[..., 2:]
        return np.asarray(self.position_m[:2]) + world[..., :2] * depth

    def pixels(self, plane_m: Points, distance_m: float) -> Points:
        """Return the pixel positions of points on the plane z = `distance_m`."""
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
        """Return the view in values from `to_json`; version 1 of `truth.json` says `turn_deg`."""
        return cls(
            size=Size(*values["size"]),
            focal_px=values["focal_px"],
            corner_px=values["corner_px"],
            distortion=BrownDistortion(**values["distortion"]),
            rotation_deg=tuple(values["rotation_deg" if "rotation_deg" in values else "turn_deg"]),
            position_m=tuple(values["position_m"]),
        )


def plane_homography(
    source: View, target: View, *, distance_m: float
) -> Float64[np.ndarray, "3 3"]:
    """Return the homography between the pixels of two views of a plane, without distortion."""
    axis = np.array([0.0, 0.0, 1.0])
    to_plane = np.outer(source.position_m, axis) + (distance_m - source.position_m[2]) * np.eye(3)
    to_target = target.rotation @ (to_plane - np.outer(target.position_m, axis))
    matrix = target.intrinsics @ to_target @ source.rotation.T @ np.linalg.inv(source.intrinsics)
    return matrix / matrix[2, 2]
