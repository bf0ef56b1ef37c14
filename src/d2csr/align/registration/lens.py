"""Lens distortion: Brown's model about the middle of a frame, and where its figures come from.

Where a lens' distortion is known from: nowhere, given figures, or lensfun by EXIF.
"""

import json
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from d2csr.align.camera_info import CameraInfo
from d2csr.align.photo import Photo
from d2csr.core.errors import DataError, UsageError
from d2csr.core.geometry import Size

Points = Float64[np.ndarray, "*n 2"]


@dataclass(frozen=True)
class Lens:
    """Brown's distortion (1966) on radii given as shares of half the frame's diagonal.

    Attributes:
        k1: radial displacement at the corner, as a share of its radius; below 0 barrel.
        k2: the same, growing with the fourth power of the radius.
        k3: the same, growing with the sixth.
        p1: tangential, first.
        p2: tangential, second.
    """

    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Return whether the lens distorts nothing."""
        return self == IDENTITY

    def distorted(self, ideal: Points, frame: Size) -> Points:
        """Return where ideal positions of a frame fall through the lens, in pixels."""
        if self.is_identity:
            return ideal
        middle, corner = _middle_and_corner(frame)
        return self._bent((ideal - middle) / corner) * corner + middle

    def ideal(self, distorted: Points, frame: Size) -> Points:
        """Return the ideal positions that fall on these, in pixels, to 1e-8 of the diagonal."""
        if self.is_identity:
            return distorted
        middle, corner = _middle_and_corner(frame)
        wanted = (distorted - middle) / corner
        found = wanted
        for _ in range(60):
            miss = wanted - self._bent(found)
            found = np.clip(
                found + miss, -4, 4
            )  # a strong lens has no answer far outside its frame
            if np.abs(miss).max(initial=0.0) < 1e-8:
                break
        return found * corner + middle

    def _bent(self, point: Points) -> Points:
        x, y = point[..., 0], point[..., 1]
        square = x * x + y * y
        radial = 1 + square * (self.k1 + square * (self.k2 + square * self.k3))
        return np.stack(
            [
                x * radial + 2 * self.p1 * x * y + self.p2 * (square + 2 * x * x),
                y * radial + self.p1 * (square + 2 * y * y) + 2 * self.p2 * x * y,
            ],
            axis=-1,
        )


IDENTITY = Lens()


def _middle_and_corner(frame: Size) -> tuple[Float64[np.ndarray, " 2"], float]:
    return (np.array(frame, np.float64) - 1) / 2, float(np.hypot(*frame)) / 2


Source = Literal["identity", "lensfun", "estimate", "given"]
# Of half the diagonal, by which Brown's even powers may miss lensfun's model, which has odd ones:
# worst in the corners. The coefficients are refined on the pair, unless `--warp none` is said.
LENSFUN_LIMIT = 1.5e-3


@dataclass(frozen=True)
class LensSpec:
    """Which distortion is undone before registering.

    Attributes:
        source: identity, lensfun, estimate (of many pairs together; a single pair has none to
            join), or given.
        wide: given, of the wide photographs.
        tele: given, of the tele photographs.
    """

    source: Source = "identity"
    wide: Lens = field(default=IDENTITY)
    tele: Lens = field(default=IDENTITY)


UNKNOWN_LENSES = LensSpec()


def lens_choice(text: str) -> LensSpec:
    """Return the choice that a word or a JSON file names.

    Args:
        text: `identity`, `lensfun`, `estimate`, or a file `{"wide": {"k1": ...}, "tele": {...}}`.

    Raises:
        UsageError: neither word nor file.
        DataError: the file isn't what it should be.
    """
    for word in ("identity", "lensfun", "estimate"):
        if text == word:
            return LensSpec(word)
    path = Path(text)
    if not path.is_file():
        remedy = "Say identity, lensfun, estimate, or the name of a JSON file."
        raise UsageError("--lens", f"{text!r} is none of its choices and no file", remedy=remedy)
    known = [each.name for each in fields(Lens)]
    remedy = f'Write {{"wide": {{...}}, "tele": {{...}}}} with numbers for {", ".join(known)}.'
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        wide, tele = (
            Lens(**{name: float(value) for name, value in values.get(end, {}).items()})
            for end in ("wide", "tele")
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(path, f"holds no lenses ({error})", remedy=remedy) from error
    return LensSpec("given", wide, tele)


def resolve_lenses(wide: Photo, tele: Photo, *, choice: LensSpec) -> tuple[Lens, Lens]:
    """Return the distortion of both photographs' lenses.

    Raises:
        DataError: lensfun knows no such camera or lens.
    """
    if choice.source == "lensfun":
        first, second = (
            lensfun_lens(each.facts, each.size, path=each.path) for each in (wide, tele)
        )
        return first, second
    return choice.wide, choice.tele


def lensfun_lens(facts: CameraInfo, frame: Size, *, path: Path) -> Lens:
    """Return lensfun's distortion of a lens at a focal length, as Brown's radial terms.

    Raises:
        DataError: EXIF tells no lens, or lensfun knows none, or not at this focal length.
    """
    # its database takes a while to load, and few need it; the module says nothing of its types
    lensfunpy: Any = import_module("lensfunpy")

    remedy = "Leave --lens away, or give the coefficients in a JSON file."
    if not (facts.model and facts.focal_mm):
        raise DataError(path, "tells no camera and focal length for lensfun", remedy=remedy)
    database = lensfunpy.Database()
    cameras = database.find_cameras(facts.make, facts.model)
    known = database.find_lenses(cameras[0], None, facts.lens or None) if cameras else []
    lenses = [each for each in known if each.min_focal <= facts.focal_mm <= each.max_focal]
    if not lenses:
        problem = f"has a camera or lens that lensfun doesn't know ({facts.model}, {facts.lens})"
        raise DataError(path, problem, remedy=remedy)
    if not facts.lens and len(lenses) > 1:
        first = ", ".join(each.model for each in lenses[:3])
        problem = f"tells no lens, and {len(lenses)} fit the camera at its focal length ({first})"
        raise DataError(path, problem, remedy=remedy)
    modifier = lensfunpy.Modifier(lenses[0], cameras[0].crop_factor, *frame)
    modifier.initialize(
        facts.focal_mm, facts.f_number or 8.0, facts.distance_m or 10.0,
        flags=lensfunpy.ModifyFlags.DISTORTION,
    )  # fmt: skip
    step = max(1, max(frame) // 64)
    distorted = modifier.apply_geometry_distortion(0, 0, *frame)
    if distorted is None:
        raise DataError(path, f"lensfun has no distortion of {lenses[0].model}", remedy=remedy)
    return fitted_lens(
        np.asarray(distorted, np.float64)[::step, ::step], step, frame=frame, path=path
    )


def fitted_lens(distorted: np.ndarray, step: int, *, frame: Size, path: Path) -> Lens:
    """Return the radial terms that bring ideal places, `step` apart, to these distorted ones.

    Raises:
        DataError: they don't describe it.
    """
    rows, columns = distorted.shape[:2]
    ideal = np.stack(np.meshgrid(np.arange(columns) * step, np.arange(rows) * step), -1)
    middle, corner = (np.array(frame) - 1) / 2, np.hypot(*frame) / 2
    start, goal = ((each - middle) / corner for each in (ideal, distorted))
    square = (start**2).sum(-1, keepdims=True)
    terms = np.stack([start, *(start * square**power for power in (1, 2, 3))], -1).reshape(-1, 4)
    size, *radial = np.linalg.lstsq(terms, goal.reshape(-1), rcond=None)[0]
    missed = np.abs(terms @ [size, *radial] - goal.reshape(-1)).max()
    if missed > LENSFUN_LIMIT:
        problem = (
            f"lensfun's model can't be written as radial terms ({missed * corner:.2f} px missed)"
        )
        raise DataError(path, problem, remedy="Leave --lens away.")
    # an ideal frame enlarged by `size` has the same shape; the matrix takes the enlargement up
    return Lens(*(float(k / size ** (2 * n + 1)) for n, k in enumerate(radial, 1)))
