"""The truth about captured frames: where each position of the wide one lies on the tele one.

`truth.json`, version 1, lies beside the frames. Positions are pixels, centres at whole numbers. The
registered grid is the wide (LR) grid times the scale: position X on it is (X + 0.5) / scale - 0.5
on the wide frame.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from d2csr.core.errors import DataError
from d2csr.core.files import write_atomically
from d2csr.core.geometry import Size
from d2csr.simulate.geometry import View, plane_homography
from d2csr.simulate.photographs import Photograph, SimulatedPair
from d2csr.simulate.scene import Plane

TRUTH_NAME = "truth.json"
MASKS_NAME = ".truth"  # hidden, or `d2csr align` would take masks for photographs without partner
VERSION = 1

Points = Float64[np.ndarray, "*grid 2"]


@dataclass(frozen=True)
class GroundTruth:
    """What is known about one pair of frames.

    Attributes:
        name: NNN, with which its files begin.
        scale: of the registered grid.
        wide_file: the wide frame.
        tele_file: the tele frame.
        wide: view of the wide frame.
        tele: view of the tele frame.
        planes_m: distances of the scene's planes, the backdrop's first.
        planes_file: 8-bit PNG on the wide grid: number of the plane that each pixel sees.
        parallax_file: 8-bit PNG on the wide grid: 0 where the backdrop's truth does not hold,
            because a nearer plane is seen there, or hides the place from the tele camera.
        light_ratio: exposure of the tele frame by the wide one's, of red, green, blue: linear.
        shots: everything that was drawn for the wide and the tele photograph.
    """

    name: str
    scale: int
    wide_file: str
    tele_file: str
    wide: View
    tele: View
    planes_m: tuple[float, ...]
    planes_file: str
    parallax_file: str
    light_ratio: tuple[float, float, float]
    shots: dict[str, Any]

    @property
    def registered_size(self) -> Size:
        """Return the size of the registered grid."""
        return self.wide.size.times(self.scale)

    @property
    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """Return the homography from the registered grid to the tele frame, by the backdrop.

        It holds between positions from which each lens' distortion is removed.
        """
        registered = self.wide.times(self.scale)
        return plane_homography(registered, self.tele, distance_m=self.planes_m[0])

    def tele_position(self, registered: Points, *, plane: int = 0) -> Points:
        """Return where positions (x, y) of the registered grid lie on the tele frame.

        Args:
            registered: positions on the wide grid times the scale.
            plane: which plane of the scene is looked at; 0 is the backdrop.
        """
        distance_m = self.planes_m[plane]
        seen = self.wide.times(self.scale).on_plane(registered, distance_m)
        return self.tele.pixels(seen, distance_m)


def truth_of(couple: SimulatedPair, name: str, *, suffix: str) -> GroundTruth:
    """Return the truth about a couple whose frames are named by `name` and `suffix`."""
    wide, tele = couple.wide, couple.tele
    stops = tele.exposure.stops - wide.exposure.stops
    gains = zip(tele.development.gains, wide.development.gains, strict=True)
    red, green, blue = (2**stops * of_tele / of_wide for of_tele, of_wide in gains)
    return GroundTruth(
        name,
        couple.scale,
        f"{name}_wide{suffix}",
        f"{name}_tele{suffix}",
        wide.shot.view,
        tele.shot.view,
        tuple(plane.distance_m for plane in couple.scene.planes),
        f"{MASKS_NAME}/{name}_planes.png",
        f"{MASKS_NAME}/{name}_parallax.png",
        (red, green, blue),
        {"wide": sampled_parameters(wide), "tele": sampled_parameters(tele)},
    )


def sampled_parameters(photograph: Photograph) -> dict[str, Any]:
    """Return what was drawn for a photograph, geometry aside, as JSON values."""
    lens = asdict(photograph.shot.lens)
    return {
        "lens": lens | {"wavelengths_nm": list(lens["wavelengths_nm"])},
        "exposure": asdict(photograph.exposure),
        "gains": list(photograph.development.gains),
        "noise_seed": list(photograph.seed),
    }


def planes_seen(couple: SimulatedPair) -> UInt8[np.ndarray, "h w"]:
    """Return the number of the plane that each pixel of the wide frame sees."""
    view = couple.wide.shot.view
    seen = np.zeros((view.size.height, view.size.width), np.uint8)
    pixels = _grid(view.size)
    for number, plane in enumerate(couple.scene.planes[1:], 1):
        seen[_covered(plane, view.on_plane(pixels, plane.distance_m))] = number
    return seen


def parallax_mask(
    couple: SimulatedPair, seen: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """Return 255 where both frames see the backdrop, 0 elsewhere, on the wide grid."""
    wide, tele = couple.wide.shot.view, couple.tele.shot.view
    distance_m = couple.scene.distance_m
    on_tele = tele.pixels(wide.on_plane(_grid(wide.size), distance_m), distance_m)
    free = seen == 0
    for plane in couple.scene.planes[1:]:
        free &= ~_covered(plane, tele.on_plane(on_tele, plane.distance_m))
    return np.where(free, np.uint8(255), np.uint8(0))


def _grid(size: Size) -> Float64[np.ndarray, "h w 2"]:
    x, y = np.meshgrid(np.arange(size.width, dtype=np.float64), np.arange(size.height))
    return np.stack([x, y], axis=-1)


def _covered(plane: Plane, points_m: Float64[np.ndarray, "h w 2"]) -> np.ndarray:
    """Return whether a plane lies at points of it."""
    middle = (np.array(plane.size, np.float64) - 1) / 2
    u, v = np.moveaxis((points_m / plane.pitch_m + middle).astype(np.float32), -1, 0)
    cover = np.zeros((plane.size.height, plane.size.width), np.uint8)
    cover = plane.cover if plane.cover is not None else cover
    return cv2.remap(cover, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) > 127


def write_truth(truths: tuple[GroundTruth, ...], path: Path) -> None:
    """Write the truth about all captures atomically."""
    rows = [_row(truth) for truth in truths]
    text = json.dumps({"version": VERSION, "captures": rows}, indent=1)
    write_atomically(path, f"{text}\n".encode())


def read_truth(path: Path) -> tuple[GroundTruth, ...]:
    """Return the truth about the captures in a folder, or in its `truth.json`.

    Raises:
        DataError: the file is missing or not of this version.
    """
    path = path / TRUTH_NAME if path.is_dir() else path
    remedy = f"Give the {TRUTH_NAME} that `d2csr simulate --captures` wrote."
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"can't be read ({error})", remedy=remedy) from error
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise DataError(path, f"is not of version {VERSION}", remedy=remedy)
    return tuple(_truth(row) for row in values["captures"])


def _row(truth: GroundTruth) -> dict[str, Any]:
    views = {"wide": truth.wide, "tele": truth.tele}
    plain = {name: value for name, value in vars(truth).items() if name not in views}
    return {
        **plain,
        **{name: view.to_json() for name, view in views.items()},
        "registered_size": list(truth.registered_size),
        "matrix": truth.matrix.tolist(),
        "opencv": {name: _opencv(view) for name, view in views.items()},
    }


def _truth(row: dict[str, Any]) -> GroundTruth:
    derived = ("registered_size", "matrix", "opencv")
    values = {name: value for name, value in row.items() if name not in derived}
    lists = {name: tuple(values[name]) for name in ("planes_m", "light_ratio")}
    views = {name: View.from_json(values[name]) for name in ("wide", "tele")}
    return GroundTruth(**{**values, **lists, **views})


def _opencv(view: View) -> dict[str, Any]:
    """Return the camera matrix and the distortion coefficients as OpenCV counts them."""
    lens, step = view.distortion, view.focal_px / view.corner_px
    coefficients = (
        lens.k1 * step**2, lens.k2 * step**4, lens.p1 * step, lens.p2 * step, lens.k3 * step**6,
    )  # fmt: skip
    return {
        "camera_matrix": view.intrinsics.tolist(),
        "distortion_coefficients": list(coefficients),
    }
