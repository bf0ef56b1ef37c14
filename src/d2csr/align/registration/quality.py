"""Quality of a registered pair: scores in plain units, their limits, and the mask for training.

A pair whose scores break a limit is rejected. The mask excludes parts of an accepted pair whose HR
image shows something else than the LR image.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from d2csr.align.registration.fit import Matches, fit_mapping
from d2csr.align.registration.lucas_kanade import PatchDisplacements, measure_displacements
from d2csr.align.registration.refine import MIN_SIMILARITY
from d2csr.align.registration.transform import Mapping as GridMapping
from d2csr.align.registration.transform import registered_of_wide
from d2csr.align.registration.warp import gaussian_blur
from d2csr.core.errors import PairRejectedError, format_beyond
from d2csr.core.geometry import Region

TEXTURED = 0.02  # contrast, 0..1, of a patch whose similarity and displacement are meaningful
MAX_DEVIATION_PX = 0.15  # wide pixels; residuals of less certain patches aren't counted
PARALLAX_WIDE_PX = 0.5  # a patch displaced by more is at another depth, or moved


@dataclass(frozen=True)
class GeometryScores:
    """Scores of the mapping between the photographs."""

    residual_median_px: float
    residual_p95_px: float
    grid_error_px: float
    parallax: float
    overlap: float
    ratio: float
    features: int


@dataclass(frozen=True)
class ContentScores:
    """Scores of what both photographs show."""

    similarity: float
    textured: float
    masked: float


@dataclass(frozen=True)
class SharpnessScores:
    """Scores of blur and detail."""

    blur_minor: float
    blur_major: float
    detail: float


@dataclass(frozen=True)
class ColorScores:
    """Scores of exposure and colors."""

    exposure_ev: float
    colour_residual: float
    saturated: float


@dataclass(frozen=True)
class TrustScores:
    """Scores of the area that training uses."""

    trusted_share: float
    trusted_mp: float


@dataclass(frozen=True)
class Scores:
    """Scores of a pair in five groups; `MEANINGS` explains each of them.

    A pair is dense if a field of displacements was added to the global mapping.
    """

    geometry: GeometryScores
    content: ContentScores
    sharpness: SharpnessScores
    color: ColorScores
    trust: TrustScores
    is_dense: bool = False

    def as_dict(self) -> dict[str, float]:
        """Return every score by its name; inf if too little is left to measure it."""
        groups = (self.geometry, self.content, self.sharpness, self.color, self.trust)
        return {name: value for group in groups for name, value in asdict(group).items()}

    def as_json(self) -> dict[str, float | None]:
        """Return the scores to 4 significant digits; None for inf, which JSON doesn't have."""
        return {
            name: (value if isinstance(value, int) else float(f"{value:.4g}"))
            if np.isfinite(value)
            else None
            for name, value in self.as_dict().items()
        }


# Shown in the report too.
MEANINGS: Mapping[str, str] = {
    "residual_median_px": "remaining displacement where nothing is masked, in HR pixels; it "
    "includes the noise of each measurement",
    "residual_p95_px": "the same, 95th percentile",
    "grid_error_px": "uncertainty of the alignment, in HR pixels: half the difference between fits "
    "to two halves of the patches, about twice the true error; of a dense registration, the "
    "standard deviation of a displacement",
    "parallax": "share of textured patches that don't fit one global mapping: other depths, moved "
    "objects",
    "overlap": "share of the tele photograph that is in the pair",
    "ratio": "ratio of the focal lengths, measured in pixels",
    "features": "features that agree in the first, coarse registration",
    "similarity": "median share of a textured patch's variance that the other image explains",
    "textured": "share of patches with enough texture to register by",
    "masked": "share of LR pixels that training avoids",
    "blur_minor": "blur from HR to LR, in LR pixels, in the direction where it is least; below 0 "
    "the tele photograph is the softer one",
    "blur_major": "the same in the direction where it is most",
    "detail": "detail of the tele photograph relative to the wide one, in the direction where "
    "it is least; near 0 camera shake has removed it",
    "exposure_ev": "stops by which the tele photograph is darker (above 0) than the wide one",
    "colour_residual": "median color difference left after matching, 0 to 1",
    "saturated": "share of overexposed pixels in LR",
    "trusted_share": "share of the texture that training uses",
    "trusted_mp": "texture that training uses, in megapixels of HR",
}


@dataclass(frozen=True)
class Limit:
    """Limit of a score.

    Attributes:
        bound: returns the limit at a scale.
        is_minimum: whether smaller values are rejected, not larger ones.
        message: reason for a rejection, with placeholders `value` and `bound`.
        registration: the kind of registration that it applies to.
        dense_bound: the limit for dense registrations, if it is another one.
    """

    bound: Callable[[int], float]
    is_minimum: bool
    message: str
    registration: Literal["any", "global", "dense"] = "any"
    dense_bound: float | None = None

    def bound_at(self, scale: int, *, is_dense: bool) -> float:
        """Return the limit at a scale, for a kind of registration."""
        return self.dense_bound if is_dense and self.dense_bound else self.bound(scale)

    def applies_to(self, *, is_dense: bool) -> bool:
        """Return whether pairs of a kind of registration must respect the limit."""
        return self.registration in ("any", "dense" if is_dense else "global")


# Chosen on simulated and real pairs, good and wrong (docs/align.md).
LIMITS: Mapping[str, Limit] = {
    "similarity": Limit(
        lambda _: 0.60,
        True,
        "the photographs have a similarity of {value:.2f}, below {bound:.2f}: do they show the "
        "same scene?",
    ),
    "textured": Limit(
        lambda _: 0.02, True, "only {value:.1%} of the area has texture to register by"
    ),
    "trusted_share": Limit(
        lambda _: 0.10,
        True,
        "only {value:.0%} of the texture could be registered reliably, below {bound:.0%}: too much "
        "depth close by, movement, or blur",
        "dense",
    ),
    "trusted_mp": Limit(
        lambda _: 0.01,
        True,
        "only {value:.3f} MP of texture could be registered reliably, below {bound:.3f}",
        "dense",
    ),
    "grid_error_px": Limit(
        lambda scale: 0.30 if scale <= 4 else 0.075 * scale,
        False,
        "the grid is known to {value:.2f} px only, above {bound:.2f}",
    ),
    "residual_median_px": Limit(
        lambda scale: 0.25 * scale,
        False,
        "half of the area is displaced by more than {value:.2f} px, above {bound:.2f}",
    ),
    "parallax": Limit(
        lambda _: 0.35,
        False,
        "{value:.0%} of the area doesn't fit the rest (parallax), above {bound:.0%}",
        "global",
    ),
    "blur_minor": Limit(
        lambda _: -0.30,
        True,
        "the tele image is hardly sharper than the wide one (blur {value:.2f} px of the wide, "
        "below {bound:.2f}): out of focus or shaken",
        dense_bound=-0.50,  # phones sharpen the image of the wide lens more
    ),
    "blur_major": Limit(
        lambda _: 1.20,
        False,
        "the wide image is blurred by {value:.2f} of its pixels, above {bound:.2f}: out of focus "
        "or shaken",
    ),
    "detail": Limit(
        lambda _: 0.20,
        True,
        "in one direction the tele image holds {value:.0%} of the wide one's detail, below "
        "{bound:.0%}: shaken or out of focus",
    ),
    "exposure_ev": Limit(
        lambda _: 2.0, False, "the exposures differ by {value:.1f} stops, above {bound:.1f}"
    ),
    "colour_residual": Limit(
        lambda _: 0.05, False, "colors differ by {value:.3f} after matching, above {bound:.3f}"
    ),
    "saturated": Limit(
        lambda _: 0.30, False, "{value:.0%} of the area is overexposed, above {bound:.0%}"
    ),
    "overlap": Limit(
        lambda _: 0.15,
        True,
        "only {value:.0%} of the tele photograph is in the pair, below {bound:.0%}",
    ),
    "masked": Limit(
        lambda _: 0.75,
        False,
        "{value:.0%} of the area would be masked, above {bound:.0%}",
        "global",
    ),
}


def check_quality(scores: Scores, *, scale: int) -> None:
    """Check every score against its limit.

    Raises:
        PairRejectedError: a limit is broken; the cause is the first one in the order of `LIMITS`,
            the reason lists all of them.
    """
    breaches = []
    values = scores.as_dict()
    for name, limit in LIMITS.items():
        if not limit.applies_to(is_dense=scores.is_dense):
            continue
        bound = limit.bound_at(scale, is_dense=scores.is_dense)
        value = abs(values[name]) if name == "exposure_ev" else values[name]
        if not np.isfinite(value):
            breaches.append((name, f"too little is left to measure {name}"))
        elif not (value >= bound if limit.is_minimum else value <= bound):
            breaches.append((name, _describe_breach(limit.message, value, bound=bound)))
    if breaches:
        raise PairRejectedError(breaches[0][0], "; ".join(message for _, message in breaches))


def _describe_breach(message: str, value: float, *, bound: float) -> str:
    """Return the message of a limit; a value that rounds to the bound has more digits."""

    def fill(field: re.Match[str]) -> str:
        return format_beyond(value, bound, spec=field[1])

    return re.sub(r"\{value:(\.\d[f%])\}", fill, message).format(bound=bound)


def residual_percentiles_px(
    patches: PatchDisplacements, mask: UInt8[np.ndarray, "h w"], *, scale: int
) -> tuple[float, float]:
    """Return median and 95th percentile of the displacements in HR pixels; inf if none is certain.

    Args:
        patches: with positions on the grid of the mask.
        mask: patches where it is 0 aren't counted.
        scale: HR pixels per LR pixel.
    """
    column, row = patches.positions.astype(int).T
    certain = (patches.deviation_px < MAX_DEVIATION_PX) & (mask[row, column] > 0)
    if not certain.any():
        return float("inf"), float("inf")
    sizes_px = scale * np.hypot(*patches.displacements[certain].T)
    return float(np.median(sizes_px)), float(np.percentile(sizes_px, 95))


def parallax_share(patches: PatchDisplacements) -> float:
    """Return the share of certain textured patches displaced by more than half a wide pixel."""
    textured = patches.select(
        (patches.contrast > TEXTURED) & (patches.deviation_px < MAX_DEVIATION_PX)
    )
    if not len(textured):
        return 0.0
    return float((np.hypot(*textured.displacements.T) > PARALLAX_WIDE_PX).mean())


def grid_error_px(
    mapping: GridMapping, matches: Matches, *, region: Region, mask: UInt8[np.ndarray, "h w"]
) -> float:
    """Return the random error of the mapping, in HR pixels RMS; inf if too few patches are left.

    Two fits, each to half of the patches, differ by twice the error of the fit to all of them. They
    are compared where the mask isn't 0.
    """
    fine = region.times(mapping.scale)
    side = 8 * float(np.sqrt(fine.width * fine.height / max(len(matches), 1)))
    block = np.floor((matches.registered - [fine.left, fine.top]) / side).astype(int)
    odd = block.sum(1) % 2 == 1
    rows, columns = (np.linspace(0, n - 1, 48).astype(int) for n in mask.shape)
    is_used = mask[np.ix_(rows, columns)] > 0
    if min(odd.sum(), (~odd).sum()) < 12 or not is_used.any():
        return float("inf")
    x = registered_of_wide(region.left + columns.astype(np.float64), mapping.scale)
    y = registered_of_wide(region.top + rows.astype(np.float64), mapping.scale)
    cells = [] if mapping.mesh is None else [mapping.mesh.cells]
    halves = [
        fit_mapping(
            mapping, matches.select(part), region=fine, cells=cells, lens_prior=mapping
        ).on_grid(x, y)[is_used]
        for part in (odd, ~odd)
    ]
    difference = np.hypot(*np.moveaxis(halves[0] - halves[1], -1, 0)) / mapping.tele_px_per_px
    return float(np.sqrt(np.mean(difference**2))) / 2


MASK_WINDOW_PX, MASK_STEP_PX = 16, 4
MASK_SIGMA = 1.0  # blur, wide pixels, without which aliasing lowers the similarity
MIN_MASK_SIMILARITY = 0.40  # a textured patch below it shows something else
MIN_MASK_CONTRAST = 0.03
# A neighborhood is displaced if the mean displacement of its patches, weighted by a Gaussian with
# the first number as standard deviation, exceeds the second number, both in wide pixels. Aliasing
# can displace single patches by 0.3, not whole neighborhoods. Chosen on simulated pairs.
DISPLACED_LIMITS = ((16.0, 0.12), (8.0, 0.25), (4.0, 0.5))
ALIASING_PX = 0.1  # smallest error of a patch, whatever its texture
MAX_DISPLACEMENT_PX = 1.0  # larger displacements are unreliable and are clipped
ZERO_WEIGHT = 5.0  # weight of no displacement: areas without texture stay unmasked
MAX_DIFFERENCE = 0.10  # of full range, over a few pixels, after brightness is matched
GROWTH_PX = 3


def build_mask(
    fixed: Float32[np.ndarray, "h w"], moving: Float32[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """Return the mask for training: 255 = use, 0 = avoid.

    Args:
        fixed: wide image, gray.
        moving: tele image on the same grid, of the same resolution and brightness.
    """
    soft = gaussian_blur(fixed, MASK_SIGMA), gaussian_blur(moving, MASK_SIGMA)
    patches, soft_patches = (
        measure_displacements(*images, window_px=MASK_WINDOW_PX, step_px=MASK_STEP_PX)
        for images in ((fixed, moving), soft)
    )
    excluded = _differs(*soft) | find_displaced(patches, fixed.shape, step_px=MASK_STEP_PX)
    dissimilar = (soft_patches.similarity < MIN_MASK_SIMILARITY) & (
        soft_patches.contrast > MIN_MASK_CONTRAST
    )
    for x, y in soft_patches.positions[dissimilar]:
        left, top = round(x - MASK_STEP_PX / 2), round(y - MASK_STEP_PX / 2)
        excluded[max(top, 0) : top + MASK_STEP_PX, max(left, 0) : left + MASK_STEP_PX] = True
    grown = cv2.dilate(excluded.astype(np.uint8), np.ones((2 * GROWTH_PX + 1,) * 2, np.uint8))
    return np.where(grown > 0, np.uint8(0), np.uint8(255))


def find_displaced(
    patches: PatchDisplacements, shape: tuple[int, ...], *, step_px: int
) -> Bool[np.ndarray, "h w"]:
    """Return the mask of neighborhoods displaced together: nearer objects, moved objects.

    Positions with little texture get the value of their surroundings.
    """
    cells = [side // step_px + 2 for side in shape]
    column, row = np.rint(patches.positions / step_px).astype(int).T
    size_px = np.hypot(*patches.displacements.T)
    weight = (patches.similarity > MIN_SIMILARITY) / (patches.deviation_px**2 + ALIASING_PX**2)
    clipped = weight * np.minimum(1, MAX_DISPLACEMENT_PX / np.maximum(size_px, 1e-9))
    sums = np.zeros((*cells, 3))
    np.add.at(
        sums, (row, column), np.stack([weight, *(clipped * patches.displacements.T)], axis=-1)
    )
    is_displaced = np.zeros(cells, bool)
    for sigma_px, limit_px in DISPLACED_LIMITS:
        weights, x, y = np.moveaxis(cv2.GaussianBlur(sums, (0, 0), sigma_px / step_px), -1, 0)
        is_displaced |= np.hypot(x, y) > limit_px * (weights + ZERO_WEIGHT)
    rows, columns = ((np.arange(side) + step_px // 2) // step_px for side in shape)
    return is_displaced[np.ix_(rows, columns)]


def _differs(wide: np.ndarray, reduced: np.ndarray) -> np.ndarray:
    """Return the mask of brightness differences over several pixels: clipping, reflections."""
    difference = cv2.GaussianBlur(wide - reduced, (0, 0), 2.0)
    return np.abs(difference) > MAX_DIFFERENCE
