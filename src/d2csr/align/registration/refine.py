"""Iterated registration: the blurred tele image laid over the wide one, and moved until it fits.

While the mapping is estimated the tele image is blurred to the wide one's resolution and has its
brightness; the mapping found is one for the source image. Every iteration fits afresh, from
wide places to tele places, so that nothing accumulates.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from d2csr.align.registration.fit import fit_mapping, matches_of
from d2csr.align.registration.lucas_kanade import Displacements, measure_displacements
from d2csr.align.registration.photometric import ColorTransfer, fit_color_transfer, identity_tone
from d2csr.align.registration.transform import Mapping, covered_region, registered_of_wide
from d2csr.align.registration.warp import FIRST_SIGMA, NO_SECOND_MAP, blurred, downsample_to_wide
from d2csr.core.errors import PairRejectedError
from d2csr.core.geometry import Region

LEAST_REGION_PX = 32
LEAST_PATCHES = 12
LEAST_WINDOW_PX = 10
PATCHES_ACROSS = 5  # the shorter side of the region
LEAST_SIMILARITY = 0.3  # of a patch that may vote
LARGEST_MOVE = 0.35  # of the window: what a patch can see
COARSE_PX = 360  # longer side of the grid that brightness is matched on


@dataclass(frozen=True)
class Iteration:
    """One iteration.

    Attributes:
        extra_sigma: blur of both images on top of all, wide pixels: sees farther.
        window_px: side of the patches, wide pixels.
        cells: finest mesh allowed, on the longer side; 0 allows none.
        centre: share of the covered area's sides that is looked at.
    """

    extra_sigma: float
    window_px: int
    cells: int
    lenses: bool = True
    centre: float = 1.0


# The first looks at the centre, where distortion moves nothing far; the last two leave out the
# edge, where blur and distortion that no part of the mapping describes are largest. Windows and
# blur of the last two were chosen by the error on simulated pairs (docs/align.md).
ROUNDS = (
    Iteration(2.0, 40, 0, lenses=False, centre=0.7),
    Iteration(1.5, 32, 0),
    Iteration(0.7, 24, 1),
    Iteration(0.0, 10, 3, centre=0.98),
    Iteration(0.0, 10, 3, centre=0.98),
)


@dataclass(frozen=True)
class Refinement:
    """What the iterations came to.

    Attributes:
        mapping: from the registered grid to the tele photograph.
        region: of the wide frame that was looked at last.
        tone: of gray, tele to wide.
        sigma: blur that brings the tele image to the wide one's resolution, wide pixels.
        moves_px: median move of the patches after each iteration, wide pixels.
    """

    mapping: Mapping
    region: Region
    tone: ColorTransfer
    sigma: float
    moves_px: tuple[float, ...]


@dataclass(frozen=True)
class Ablation:
    """Parts of the registration that comparisons leave out.

    Attributes:
        blur: blur the tele image to the wide one's resolution while estimating.
        tone: match the brightness while estimating.
        radial: fit the radial distortion of both lenses with the matrix.
        mesh: fit a mesh where held-out patches are better explained with it.
        rounds: iterations.
        again: rounds after those, places that are masked having no say.
    """

    blur: bool = True
    tone: bool = True
    radial: bool = True
    mesh: bool = True
    rounds: tuple[Iteration, ...] = ROUNDS
    again: int = 2


EVERYTHING = Ablation()


@dataclass(frozen=True)
class Masked:
    """Places that have no say: what stands nearer, or moved.

    Attributes:
        region: of the wide frame.
        mask: on it; 0 = no say.
    """

    region: Region
    mask: UInt8[np.ndarray, "h w"]

    def is_unmasked(self, places: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Return which places of the wide frame are not masked, those beyond the region too."""
        height, width = self.mask.shape
        column, row = (np.rint(places) - [self.region.left, self.region.top]).astype(int).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        seen = self.mask[row.clip(0, height - 1), column.clip(0, width - 1)]
        return ~inside | (seen > 0)


def refine(
    wide: Float32[np.ndarray, "h w"],
    tele: Float32[np.ndarray, "th tw"],
    *,
    mapping: Mapping,
    switches: Ablation = EVERYTHING,
    masked: Masked | None = None,
    straight: Mapping | None = None,
) -> Refinement:
    """Return the mapping after all iterations.

    Args:
        wide: gray, 0..1, whole frame.
        tele: gray, 0..1, whole frame.
        mapping: rough, or that of an earlier call.
        switches: what to leave out.
        masked: places to leave out.
        straight: the mapping whose lenses the fitted ones are held near; None: `mapping`.

    Raises:
        PairRejectedError: no overlap, or nothing to hold on to.
    """
    sigma, moves_px, straight = FIRST_SIGMA, [], straight or mapping
    region, tone = Region(0, 0, 0, 0), identity_tone(Region(0, 0, 1, 1), 1)
    for step in switches.rounds:
        region = _central(covered_region(mapping, margin_px=2.0), step.centre)
        _refuse_small(region)
        if switches.blur and step.extra_sigma < 1:
            sigma = relative_blur(wide, tele, mapping=mapping, region=region)
        own = sigma if switches.blur else 0.0
        seen = Views(wide, tele, region, own, step.extra_sigma)
        moving = seen.moving(mapping)
        if switches.tone:
            tone = gray_tone(seen.fixed, moving, region=region, scale=mapping.scale)
            moving = apply_gray_transfer(moving, tone, region=region, scale=mapping.scale)
        patches = seen_patches(seen.fixed, moving, window_px=step.window_px, region=region)
        if masked is not None:
            patches = patches.only(masked.is_unmasked(patches.places))
        _refuse_few(patches)
        moves_px.append(float(np.median(np.hypot(*patches.moves.T))))
        matches = matches_of(
            mapping, patches.places, moves=patches.moves, information=patches.information
        )
        mapping = fit_mapping(
            mapping,
            matches,
            region=region.times(mapping.scale),
            cells=_cells(step.cells if switches.mesh else 0, region),
            straight=straight if step.lenses and switches.radial else None,
        )
    return Refinement(mapping, region, tone, sigma, tuple(moves_px))


@dataclass(frozen=True)
class Views:
    """Both images on a region of the wide grid, at one resolution."""

    wide: Float32[np.ndarray, "h w"]
    tele: Float32[np.ndarray, "th tw"]
    region: Region
    sigma: float
    extra_sigma: float = 0.0

    @property
    def fixed(self) -> Float32[np.ndarray, "h w"]:
        """Return the wide image."""
        return blurred(self.wide[self.region.slices], self.extra_sigma)

    def moving(self, mapping: Mapping) -> Float32[np.ndarray, "h w"]:
        """Return the tele image, reduced."""
        sigma_px = float(np.hypot(self.sigma, self.extra_sigma)) * mapping.ratio
        return downsample_to_wide(blurred(self.tele, sigma_px), mapping, region=self.region)


def gray_tone(
    fixed: Float32[np.ndarray, "h w"],
    moving: Float32[np.ndarray, "h w"],
    *,
    region: Region,
    scale: int,
) -> ColorTransfer:
    """Return the tone that brings the reduced tele image to the wide one."""
    return coarse_tone(fixed[..., None], moving[..., None], region=region, scale=scale)


def coarse_tone(
    fixed: Float32[np.ndarray, "h w c"],
    moving: Float32[np.ndarray, "h w c"],
    *,
    region: Region,
    scale: int,
) -> ColorTransfer:
    """Return the tone between images of a region, matched on a grid too coarse for detail."""
    factor = max(2.0, max(fixed.shape[:2]) / COARSE_PX)
    height, width = (max(4, round(side / factor)) for side in fixed.shape[:2])
    small = [
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
        for image in (fixed, moving)
    ]
    x = region.left + (np.arange(width) + 0.5) * (region.width / width) - 0.5
    y = region.top + (np.arange(height) + 0.5) * (region.height / height) - 0.5
    return fit_color_transfer(
        small[1],
        small[0],
        x=registered_of_wide(x, scale),
        y=registered_of_wide(y, scale),
        region=region.times(scale),
    )


def apply_gray_transfer(
    gray: Float32[np.ndarray, "h w"], tone: ColorTransfer, *, region: Region, scale: int
) -> Float32[np.ndarray, "h w"]:
    """Return a reduced tele image with the wide one's brightness."""
    x = registered_of_wide(np.arange(region.left, region.right, dtype=np.float64), scale)
    y = registered_of_wide(np.arange(region.top, region.bottom, dtype=np.float64), scale)
    return tone.applied(gray[..., None], x, y=y)[..., 0]


def seen_patches(
    fixed: Float32[np.ndarray, "h w"],
    moving: Float32[np.ndarray, "h w"],
    *,
    window_px: int,
    region: Region,
) -> Displacements:
    """Return the patches that can be trusted to have been found, places on the wide frame."""
    window_px = min(window_px, max(LEAST_WINDOW_PX, min(fixed.shape) // PATCHES_ACROSS))
    patches = measure_displacements(
        fixed, moving, window_px=window_px, step_px=max(window_px // 2, 4)
    )
    near = np.hypot(*patches.moves.T) < LARGEST_MOVE * window_px
    kept = patches.only(near & (patches.similarity > LEAST_SIMILARITY))
    return replace(kept, places=kept.places + np.array([region.left, region.top]))


SIGMAS = (0.25, 0.35, 0.45, 0.55, 0.7, 0.9, 1.2)


def relative_blur(
    wide: Float32[np.ndarray, "h w"],
    tele: Float32[np.ndarray, "th tw"],
    *,
    mapping: Mapping,
    region: Region,
) -> float:
    """Return the Gaussian blur, wide pixels, after which the tele image fits the wide one best.

    Looked for on the middle of the region, at most 512 wide pixels a side.
    """
    part = region.shrunk(max(0, region.width - 512) // 2, max(0, region.height - 512) // 2)
    misfit = _misfit(wide, tele, mapping=mapping, part=part)
    errors = [misfit(sigma) for sigma in SIGMAS]
    best = int(np.argmin(errors))
    if best in (0, len(SIGMAS) - 1):
        return SIGMAS[best]
    near = slice(best - 1, best + 2)
    curve = np.polyfit(SIGMAS[near], errors[near], 2)
    return float(np.clip(-curve[1] / (2 * curve[0]), SIGMAS[best - 1], SIGMAS[best + 1]))


def _misfit(
    wide: np.ndarray, tele: np.ndarray, *, mapping: Mapping, part: Region
) -> Callable[[float], float]:
    sides = np.array([[part.left, part.top], [part.right, part.bottom]], np.float64)
    ends = registered_of_wide(sides, mapping.scale)
    corners = mapping(np.stack(np.meshgrid(*ends.T), -1).reshape(4, 2))  # the camera may be turned
    halo = 8 * mapping.ratio
    left, top = np.maximum(np.floor(corners.min(0) - halo), 0).astype(int)
    right, bottom = np.ceil(corners.max(0) + halo).astype(int)
    near = tele[top:bottom, left:right]
    shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64)
    fixed = wide[part.slices]
    places = mapping.on_grid(
        registered_of_wide(np.arange(part.left, part.right, dtype=np.float64), mapping.scale),
        registered_of_wide(np.arange(part.top, part.bottom, dtype=np.float64), mapping.scale),
    )
    places = (places + shift[:2, 2]).astype(np.float32)

    def error(sigma: float) -> float:
        moving = cv2.remap(
            blurred(near, sigma * mapping.ratio), places, NO_SECOND_MAP, cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        side = min(24, min(fixed.shape) - 4)
        patches = measure_displacements(fixed, moving, window_px=side, step_px=side)
        chosen = patches.contrast > np.median(patches.contrast)
        return float(np.median(1 - patches.similarity[chosen]))

    return error


def _central(region: Region, share: float) -> Region:
    lost = (1 - share) / 2
    return region.shrunk(int(region.width * lost), int(region.height * lost))


def _cells(most: int, region: Region) -> list[tuple[int, int]]:
    """Return meshes of about square cells, coarse to fine, `most` of them on the longer side."""
    longer = max(region.width, region.height)
    return [
        (max(1, round(n * region.height / longer)), max(1, round(n * region.width / longer)))
        for n in range(1, most + 1)
    ]


def _refuse_small(region: Region) -> None:
    if min(region.width, region.height) < LEAST_REGION_PX:
        problem = f"both photographs show only {region.width}x{region.height} px of the wide one"
        raise PairRejectedError("overlap", f"{problem}; {LEAST_REGION_PX} a side are needed")


def _refuse_few(patches: Displacements) -> None:
    if len(patches) < LEAST_PATCHES:
        problem = f"only {len(patches)} places look alike in both photographs"
        raise PairRejectedError("likeness", f"{problem}; {LEAST_PATCHES} are needed")
