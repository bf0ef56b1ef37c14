"""Ground truth of captured frames: the position on the tele frame of each position on the wide one.

It is stored in `truth.json` beside the frames. Positions are in pixels, centres at whole numbers.
The registered grid is the wide (LR) grid times the scale: position X on it is
(X + 0.5) / scale - 0.5 on the wide frame.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8

from d2csr.core.errors import DataError, first_line, shorten
from d2csr.core.files import write_atomically
from d2csr.core.geometry import Points, Size
from d2csr.core.typed_reader import LIST_VALUES, read_json
from d2csr.simulate.geometry import FACING, Slope, View, plane_homography
from d2csr.simulate.photographs import Photograph, SimulatedPair
from d2csr.simulate.scene import Plane

TRUTH_NAME = "truth.json"
MASKS_NAME = ".truth"  # hidden, so that `d2csr align` does not take masks for photographs
VERSION = 3


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth of one pair of frames.

    Attributes:
        name: NNN, the prefix of its files.
        scale: of the registered grid.
        wide_file: file name of the wide frame.
        tele_file: file name of the tele frame.
        wide: view of the wide frame.
        tele: view of the tele frame.
        planes_m: distances of the scene's planes, the backdrop's first.
        slopes: of the planes, in x and y; 0 faces the camera.
        planes_file: 8-bit PNG on the wide grid: index of the plane that each pixel sees.
        parallax_file: 8-bit PNG on the wide grid: 0 where the backdrop's mapping does not hold,
            because a nearer plane is seen there or hides the backdrop from the tele camera.
        visible_file: 8-bit PNG on the wide grid: 255 where the tele frame shows what each pixel
            sees, 0 where it is hidden or outside; empty in files of earlier versions.
        light_ratio: linear ratio of the tele to the wide exposure, of red, green and blue.
        shots: all sampled parameters of the wide and the tele photograph.
    """

    name: str
    scale: int
    wide_file: str
    tele_file: str
    wide: View
    tele: View
    planes_m: tuple[float, ...]
    slopes: tuple[Slope, ...]
    planes_file: str
    parallax_file: str
    visible_file: str
    light_ratio: tuple[float, float, float]
    shots: dict[str, Any]

    @property
    def registered_size(self) -> Size:
        """Return the size of the registered grid."""
        return self.wide.size.times(self.scale)

    @property
    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """Return the homography of the backdrop from the registered grid to the tele frame.

        It holds between positions without the lenses' distortion and without shear.
        """
        registered = self.wide.times(self.scale)
        return plane_homography(
            registered, self.tele, distance_m=self.planes_m[0], slope=self.slopes[0]
        )

    def tele_position(self, registered: Points, *, plane: int = 0) -> Points:
        """Return the positions on the tele frame of positions (x, y) on the registered grid.

        Args:
            registered: positions on the wide grid times the scale.
            plane: index of the plane of the scene that is seen; 0 is the backdrop.
        """
        distance_m, slope = self.planes_m[plane], self.slopes[plane]
        seen_m = self.wide.times(self.scale).on_plane(registered, distance_m, slope=slope)
        return self.tele.pixels(seen_m, distance_m, slope=slope)

    def tele_field(
        self, registered: Points, seen: UInt8[np.ndarray, "*grid"]
    ) -> Float64[np.ndarray, "*grid 2"]:
        """Return the positions on the tele frame, each on the plane that is seen there.

        Args:
            registered: positions on the wide grid times the scale.
            seen: index of the plane that each position sees, from `planes_file`.
        """
        result = np.empty_like(registered)
        for plane in np.unique(seen).tolist():
            chosen = seen == plane
            result[chosen] = self.tele_position(registered[chosen], plane=plane)
        return result


def build_truth(pair: SimulatedPair, name: str, *, suffix: str) -> GroundTruth:
    """Return the ground truth of a pair whose frames are named by `name` and `suffix`."""
    wide, tele = pair.wide, pair.tele
    stops = tele.exposure.stops - wide.exposure.stops
    gains = zip(tele.isp.gains, wide.isp.gains, strict=True)
    red, green, blue = (2**stops * tele_gain / wide_gain for tele_gain, wide_gain in gains)
    return GroundTruth(
        name,
        pair.scale,
        f"{name}_wide{suffix}",
        f"{name}_tele{suffix}",
        wide.shot.view,
        tele.shot.view,
        tuple(plane.distance_m for plane in pair.scene.planes),
        tuple(plane.slope for plane in pair.scene.planes),
        f"{MASKS_NAME}/{name}_planes.png",
        f"{MASKS_NAME}/{name}_parallax.png",
        f"{MASKS_NAME}/{name}_visible.png",
        (red, green, blue),
        {"wide": sampled_parameters(wide), "tele": sampled_parameters(tele)},
    )


def sampled_parameters(photograph: Photograph) -> dict[str, Any]:
    """Return a photograph's sampled parameters, without its geometry, as JSON values."""
    lens = asdict(photograph.shot.lens)
    return {
        "lens": lens | {"wavelengths_nm": list(lens["wavelengths_nm"])},
        "exposure": asdict(photograph.exposure),
        "isp": photograph.isp.config.model_dump(mode="json"),
        "olpf_um": photograph.shot.sensor.olpf_um[0],
        "cfa": photograph.shot.sensor.cfa,
        "gains": list(photograph.isp.gains),
        "noise_seed": list(photograph.seed),
    }


def visible_planes(pair: SimulatedPair) -> UInt8[np.ndarray, "h w"]:
    """Return the index of the plane that each pixel of the wide frame sees."""
    view = pair.wide.shot.view
    seen = np.zeros((view.size.height, view.size.width), np.uint8)
    pixels = _grid(view.size)
    for index, plane in enumerate(pair.scene.planes[1:], 1):
        seen[_is_opaque(plane, view.on_plane(pixels, plane.distance_m, slope=plane.slope))] = index
    return seen


def parallax_mask(pair: SimulatedPair, seen: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return 255 where both frames see the backdrop, 0 elsewhere, on the wide grid."""
    is_free = (seen == 0) & ~_is_hidden(pair, 0)
    return np.where(is_free, np.uint8(255), np.uint8(0))


def visibility_mask(
    pair: SimulatedPair, seen: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """Return 255 where the tele frame shows what each pixel of the wide frame sees, 0 elsewhere."""
    result = np.zeros(seen.shape, np.uint8)
    tele_px = np.array(pair.tele.shot.view.size)
    for index in np.unique(seen).tolist():
        plane = pair.scene.planes[index]
        on_tele = _on_tele(pair, plane)
        inside = ((on_tele >= -0.5) & (on_tele < tele_px - 0.5)).all(axis=-1)
        result[(seen == index) & inside & ~_is_hidden(pair, index)] = 255
    return result


def _on_tele(pair: SimulatedPair, plane: Plane) -> Float64[np.ndarray, "h w 2"]:
    """Return the position on the tele frame of each wide pixel, as if it saw this plane."""
    wide, tele = pair.wide.shot.view, pair.tele.shot.view
    seen_m = wide.on_plane(_grid(wide.size), plane.distance_m, slope=plane.slope)
    return tele.pixels(seen_m, plane.distance_m, slope=plane.slope)


def _is_hidden(pair: SimulatedPair, index: int) -> Bool[np.ndarray, "h w"]:
    """Return whether nearer planes hide points of a plane, seen by wide pixels, from the tele."""
    tele, planes = pair.tele.shot.view, pair.scene.planes
    on_tele = _on_tele(pair, planes[index])
    hidden = np.zeros(on_tele.shape[:2], bool)
    for nearer in planes[index + 1 :]:
        hidden |= _is_opaque(nearer, tele.on_plane(on_tele, nearer.distance_m, slope=nearer.slope))
    return hidden


def _grid(size: Size) -> Float64[np.ndarray, "h w 2"]:
    x, y = np.meshgrid(np.arange(size.width, dtype=np.float64), np.arange(size.height))
    return np.stack([x, y], axis=-1)


def _is_opaque(plane: Plane, points_m: Float64[np.ndarray, "h w 2"]) -> np.ndarray:
    """Return whether a plane is opaque at these points of it."""
    middle = (np.array(plane.size, np.float64) - 1) / 2
    u, v = np.moveaxis((points_m / plane.pitch_m + middle).astype(np.float32), -1, 0)
    alpha = np.zeros((plane.size.height, plane.size.width), np.uint8)
    alpha = plane.alpha if plane.alpha is not None else alpha
    return cv2.remap(alpha, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) > 127


def write_truth(truths: tuple[GroundTruth, ...], path: Path) -> None:
    """Write the ground truth of all captures atomically."""
    rows = [_row(truth) for truth in truths]
    text = json.dumps({"version": VERSION, "captures": rows}, indent=1)
    write_atomically(path, f"{text}\n".encode())


def read_truth(path: Path) -> tuple[GroundTruth, ...]:
    """Return the ground truth of the captures in a folder, or of a `truth.json`.

    Raises:
        DataError: the file is missing, unreadable, or of an unknown version.
    """
    path = path / TRUTH_NAME if path.is_dir() else path
    remedy = f"Give the {TRUTH_NAME} that `d2csr simulate --captures` wrote."
    values = read_json(path, dict, error_type=DataError, remedy=remedy, max_values=LIST_VALUES)
    if values.get("version") not in (1, 2, VERSION):
        raise DataError(path, f"is not of version 1 to {VERSION}", remedy)
    try:
        return tuple(_truth(row) for row in values["captures"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"doesn't follow the schema ({type(error).__name__}: {first_line(error)})"
        raise DataError(path, shorten(problem, 300), remedy) from error


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
    values = {"slopes": [FACING] * len(values["planes_m"]), "visible_file": ""} | values
    lists = {name: tuple(values[name]) for name in ("planes_m", "light_ratio")}
    lists["slopes"] = tuple(map(tuple, values["slopes"]))
    views = {name: View.from_json(values[name]) for name in ("wide", "tele")}
    return GroundTruth(**{**values, **lists, **views})


def _opencv(view: View) -> dict[str, Any]:
    """Return the camera matrix and the distortion coefficients in OpenCV's order."""
    lens, step = view.distortion, view.focal_px / view.corner_px
    coefficients = (
        lens.k1 * step**2, lens.k2 * step**4, lens.p1 * step, lens.p2 * step, lens.k3 * step**6,
    )  # fmt: skip
    return {
        "camera_matrix": view.intrinsics.tolist(),
        "distortion_coefficients": list(coefficients),
    }
