"""Lens distortion in pixels of a frame, and its sources: EXIF with lensfun, a file, the pairs."""

from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict

from d2csr.align.camera_info import CameraInfo
from d2csr.align.photo import Photo
from d2csr.core.errors import DataError, UsageError
from d2csr.core.files import is_file
from d2csr.core.geometry import NO_DISTORTION, BrownDistortion, Points, Size
from d2csr.core.typed_reader import STRICT, read_json

TOLERANCE = 1e-8  # of half the diagonal, to which distortion is inverted


def distort(ideal: Points, lens: BrownDistortion, *, frame: Size) -> Points:
    """Return the distorted positions of ideal ones, in pixels of a frame.

    The lens is centred in the frame; its radii are in units of half the diagonal.
    """
    if lens.is_identity:
        return ideal
    centre, corner = _centre_and_corner(frame)
    return lens.distort((ideal - centre) / corner) * corner + centre


def undistort(distorted: Points, lens: BrownDistortion, *, frame: Size) -> Points:
    """Return the ideal positions of distorted ones, in pixels of a frame."""
    if lens.is_identity:
        return distorted
    centre, corner = _centre_and_corner(frame)
    return lens.undistort((distorted - centre) / corner, tolerance=TOLERANCE) * corner + centre


def _centre_and_corner(frame: Size) -> tuple[Float64[np.ndarray, " 2"], float]:
    return (np.array(frame, np.float64) - 1) / 2, float(np.hypot(*frame)) / 2


Source = Literal["identity", "lensfun", "estimate", "given"]
# Largest difference, in units of half the diagonal, of Brown's even powers from lensfun's model,
# which has odd ones. The coefficients are refined on the pair, but not by `--warp none`.
LENSFUN_LIMIT = 1.5e-3
LENSFUN_REMEDY = "Remove --lens lensfun, or give the coefficients in a JSON file."


@dataclass(frozen=True)
class LensSpec:
    """Source of the lens distortion that registration starts from.

    Attributes:
        source: identity, lensfun, estimate (from all pairs of a lens; the same as identity for a
            single pair), or given.
        wide: distortion of the wide photographs, if given.
        tele: distortion of the tele photographs, if given.
    """

    source: Source = "identity"
    wide: BrownDistortion = NO_DISTORTION
    tele: BrownDistortion = NO_DISTORTION


DEFAULT_LENSES = LensSpec()


def parse_lens_spec(text: str) -> LensSpec:
    """Return the lens specification of a keyword or a JSON file.

    Args:
        text: `identity`, `lensfun`, `estimate`, or the name of a JSON file
            `{"wide": {"k1": ...}, "tele": {...}}`.

    Raises:
        UsageError: the text is neither a keyword nor a file.
        DataError: the file doesn't contain lens coefficients.
    """
    for word in ("identity", "lensfun", "estimate"):
        if text == word:
            return LensSpec(word)
    path = Path(text)
    if not is_file(path):
        remedy = "Choose identity, lensfun, estimate, or the name of a JSON file."
        raise UsageError("--lens", f"{text!r} is neither a choice nor a file", remedy)
    known = [each.name for each in fields(BrownDistortion)]
    remedy = f'Write {{"wide": {{...}}, "tele": {{...}}}} with numbers for {", ".join(known)}.'
    given = read_json(path, _LensFile, error_type=DataError, remedy=remedy)
    return LensSpec("given", given.wide, given.tele)


class _LensFile(BaseModel):
    """The coefficients of both lenses in JSON; those left out are 0."""

    model_config = STRICT | ConfigDict(extra="forbid")

    wide: BrownDistortion = BrownDistortion()
    tele: BrownDistortion = BrownDistortion()


def resolve_lenses(
    wide: Photo, tele: Photo, *, spec: LensSpec
) -> tuple[BrownDistortion, BrownDistortion]:
    """Return the distortion of the wide and the tele photograph's lens.

    Raises:
        DataError: lensfun doesn't know the camera or the lens.
    """
    if spec.source == "lensfun":
        first, second = (
            read_lensfun_lens(each.camera, each.size, path=each.path) for each in (wide, tele)
        )
        return first, second
    return spec.wide, spec.tele


def read_lensfun_lens(camera: CameraInfo, frame: Size, *, path: Path) -> BrownDistortion:
    """Return lensfun's distortion of a lens at a focal length, as Brown's radial coefficients.

    Raises:
        DataError: EXIF doesn't name the lens, or lensfun doesn't know it at this focal length.
    """
    # imported lazily, because its database is large; the module has no type annotations
    lensfunpy: Any = import_module("lensfunpy")

    lens, crop_factor = _find_lens(lensfunpy.Database(), camera, path=path)
    modifier = lensfunpy.Modifier(lens, crop_factor, *frame)
    modifier.initialize(
        camera.focal_mm, camera.f_number or 8.0, camera.distance_m or 10.0,
        flags=lensfunpy.ModifyFlags.DISTORTION,
    )  # fmt: skip
    distorted = modifier.apply_geometry_distortion(0, 0, *frame)
    if distorted is None:
        raise DataError(path, f"lensfun has no distortion data for {lens.model}", LENSFUN_REMEDY)
    step = max(1, max(frame) // 64)
    grid = np.asarray(distorted, np.float64)[::step, ::step]
    return fit_radial_terms(grid, step, frame=frame, path=path)


def _find_lens(database: Any, camera: CameraInfo, *, path: Path) -> tuple[Any, float]:
    """Return lensfun's entry of a photograph's lens, and the crop factor of its camera."""
    if not (camera.model and camera.focal_mm):
        problem = "has no camera name and focal length in its EXIF, which lensfun needs"
        raise DataError(path, problem, LENSFUN_REMEDY)
    cameras = database.find_cameras(camera.make, camera.model)
    known = database.find_lenses(cameras[0], None, camera.lens or None) if cameras else []
    lenses = [each for each in known if each.min_focal <= camera.focal_mm <= each.max_focal]
    if not lenses:
        problem = f"has a camera or lens that lensfun doesn't know ({camera.model}, {camera.lens})"
        raise DataError(path, problem, LENSFUN_REMEDY)
    if not camera.lens and len(lenses) > 1:
        first = ", ".join(each.model for each in lenses[:3])
        problem = f"doesn't name its lens, and {len(lenses)} lenses fit the camera ({first})"
        raise DataError(path, problem, LENSFUN_REMEDY)
    return lenses[0], cameras[0].crop_factor


def fit_radial_terms(
    distorted: np.ndarray, step: int, *, frame: Size, path: Path
) -> BrownDistortion:
    """Return the radial coefficients that map ideal grid positions to the given distorted ones.

    Args:
        distorted: positions (rows, columns, xy) in pixels; ideally `step` apart.
        step: distance of the ideal grid positions.
        frame: size of the photograph.
        path: of the photograph, for errors.

    Raises:
        DataError: radial coefficients don't fit the distortion.
    """
    rows, columns = distorted.shape[:2]
    ideal = np.stack(np.meshgrid(np.arange(columns) * step, np.arange(rows) * step), -1)
    centre, corner = _centre_and_corner(frame)
    start, goal = ((each - centre) / corner for each in (ideal, distorted))
    square = (start**2).sum(-1, keepdims=True)
    terms = np.stack([start, *(start * square**power for power in (1, 2, 3))], -1).reshape(-1, 4)
    size, *radial = np.linalg.lstsq(terms, goal.reshape(-1), rcond=None)[0]
    worst = np.abs(terms @ [size, *radial] - goal.reshape(-1)).max()
    if worst > LENSFUN_LIMIT:
        problem = (
            f"lensfun's distortion doesn't fit radial coefficients (error {worst * corner:.2f} px)"
        )
        raise DataError(path, problem, LENSFUN_REMEDY)
    # the enlargement by `size` is left to the homography
    return BrownDistortion(*(float(k / size ** (2 * n + 1)) for n, k in enumerate(radial, 1)))
