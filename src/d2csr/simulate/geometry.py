"""Camera geometry: projection of scene planes to a pixel grid and back (pinhole, distortion, pose).

World coordinates: x to the right, y down, z away from the camera, in metres. A plane of the scene
is z = distance + slope_x x + slope_y y; points on it are given by their x and y. Pixel coordinates:
centres at whole numbers, the first at 0.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from d2csr.core.geometry import NO_DISTORTION, BrownDistortion, Points, Size

Slope = tuple[float, float]  # of a plane's z, in x and in y
FACING: Slope = (0.0, 0.0)


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
        axis_px: displacement of the optical axis from the middle, by optical stabilization.
        shear: displacement (x, y) per row, by motion of the camera while a rolling shutter reads
            the rows one after the other; none in the row of the optical axis.
    """

    size: Size
    focal_px: float
    corner_px: float
    distortion: BrownDistortion = NO_DISTORTION
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axis_px: tuple[float, float] = (0.0, 0.0)
    shear: tuple[float, float] = (0.0, 0.0)

    @property
    def centre(self) -> Float64[np.ndarray, "2"]:
        """Return the position of the optical axis on the grid."""
        return (np.array(self.size, np.float64) - 1) / 2 + self.axis_px

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
            (self.axis_px[0] * scale, self.axis_px[1] * scale),
            self.shear,
        )

    def on_plane(self, pixels: Points, distance_m: float, *, slope: Slope = FACING) -> Points:
        """Return the points (x, y), in metres, that pixels see on a plane."""
        from_axis = pixels - self.centre
        from_axis = from_axis - from_axis[..., 1:] * np.asarray(self.shear)
        ideal = self.distortion.undistort(from_axis / self.corner_px)
        camera = np.concatenate(
            [ideal * (self.corner_px / self.focal_px), np.ones((*ideal.shape[:-1], 1))], axis=-1
        )
        world = camera @ self.rotation  # of row vectors: applies the transpose
        normal = np.array([-slope[0], -slope[1], 1.0])
        depth = (distance_m - normal @ np.asarray(self.position_m)) / (world @ normal)[..., None]
        return np.asarray(self.position_m[:2]) + world[..., :2] * depth

    def pixels(self, plane_m: Points, distance_m: float, *, slope: Slope = FACING) -> Points:
        """Return the pixel positions of points (x, y), in metres, on a plane."""
        depth = distance_m + (plane_m @ np.asarray(slope))[..., None]
        world = np.concatenate([plane_m, depth], axis=-1) - np.asarray(self.position_m)
        camera = world @ self.rotation.T
        ideal = camera[..., :2] / camera[..., 2:] * (self.focal_px / self.corner_px)
        straight = self.distortion.distort(ideal) * self.corner_px
        rows = straight[..., 1:] / (1 - self.shear[1])
        return straight + rows * np.asarray(self.shear) + self.centre

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
            axis_px=tuple(values.get("axis_px", (0.0, 0.0))),
            shear=tuple(values.get("shear", (0.0, 0.0))),
        )


def plane_homography(
    source: View, target: View, *, distance_m: float, slope: Slope = FACING
) -> Float64[np.ndarray, "3 3"]:
    """Return the homography between two views of a plane, without distortion and shear."""
    normal = np.array([-slope[0], -slope[1], 1.0])
    height_m = distance_m - normal @ np.asarray(source.position_m)
    to_plane = np.outer(source.position_m, normal) + height_m * np.eye(3)
    to_target = target.rotation @ (to_plane - np.outer(target.position_m, normal))
    matrix = target.intrinsics @ to_target @ source.rotation.T @ np.linalg.inv(source.intrinsics)
    return matrix / matrix[2, 2]
