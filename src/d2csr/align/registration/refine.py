"""Iterative registration: the mapping is refitted until the resampled tele image fits the wide one.

In each iteration the tele image is blurred to the resolution of the wide one, resampled by the
current mapping and matched in brightness. The mapping is then fitted from scratch between wide and
tele positions, so that errors don't accumulate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from d2csr.align.registration.fit import fit_mapping, to_matches
from d2csr.align.registration.lucas_kanade import PatchDisplacements, measure_displacements
from d2csr.align.registration.photometric import ColorTransfer, fit_color_transfer
from d2csr.align.registration.transform import Mapping, covered_region, registered_of_wide
from d2csr.align.registration.warp import (
    INITIAL_SIGMA,
    NO_SECOND_MAP,
    downsample_to_wide,
    gaussian_blur,
)
from d2csr.core.errors import PairRejectedError
from d2csr.core.geometry import Region

MIN_REGION_PX = 32
MIN_PATCHES = 12
MIN_WINDOW_PX = 10
PATCHES_ACROSS = 5  # smallest number of patches along the shorter side of the region
MIN_SIMILARITY = 0.3  # of a patch whose displacement is used
MAX_DISPLACEMENT = 0.35  # of the window: larger ones can't be measured
COARSE_PX = 360  # longer side of the grid that brightness is matched on

Warp = Literal["mesh", "radial", "none"]


class GrayPair(NamedTuple):
    """Both photographs in gray, whole frames, 0..1."""

    wide: Float32[np.ndarray, "h w"]
    tele: Float32[np.ndarray, "th tw"]


@dataclass(frozen=True)
class Iteration:
    """Parameters of one iteration.

    Attributes:
        extra_sigma: additional blur of both images, wide pixels; allows larger displacements.
        window_px: side of the patches, wide pixels.
        cells: number of cells of the finest mesh along the longer side; 0 fits no mesh.
        fits_lenses: whether lens distortion is fitted.
        centre: share of the sides of the covered area that is used.
    """

    extra_sigma: float
    window_px: int
    cells: int
    fits_lenses: bool = True
    centre: float = 1.0


# The first iteration uses the centre, where distortion is small; the last two leave out the edge,
# where blur and distortion that the mapping can't model are largest. Windows and blur of the last
# two minimize the error on simulated pairs (docs/align.md).
ITERATIONS = (
    Iteration(2.0, 40, 0, fits_lenses=False, centre=0.7),
    Iteration(1.5, 32, 0),
    Iteration(0.7, 24, 1),
    Iteration(0.0, 10, 3, centre=0.98),
    Iteration(0.0, 10, 3, centre=0.98),
)


@dataclass(frozen=True)
class Refinement:
    """Result of the iterations.

    Attributes:
        mapping: from the registered grid to the tele photograph.
        sigma: blur from the resolution of the tele image to that of the wide one, wide pixels.
    """

    mapping: Mapping
    sigma: float


@dataclass(frozen=True)
class RegionMask:
    """Mask over a region of the wide frame: nearer or moved objects, excluded from the fit.

    Attributes:
        region: of the wide frame.
        mask: of the region's size; 0 = excluded.
    """

    region: Region
    mask: UInt8[np.ndarray, "h w"]

    def is_unmasked(self, positions: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Return True for positions of the wide frame that aren't masked or lie outside it."""
        height, width = self.mask.shape
        column, row = (np.rint(positions) - [self.region.left, self.region.top]).astype(int).T
        is_inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        values = self.mask[row.clip(0, height - 1), column.clip(0, width - 1)]
        return ~is_inside | (values > 0)


def refine(
    gray: GrayPair,
    *,
    mapping: Mapping,
    lens_prior: Mapping,
    warp: Warp = "mesh",
    iterations: Sequence[Iteration] = ITERATIONS,
    mask: RegionMask | None = None,
) -> Refinement:
    """Return the mapping after all iterations.

    Args:
        gray: both photographs, whole frames.
        mapping: initial mapping.
        lens_prior: mapping whose lens coefficients are the prior of the fitted ones.
        warp: none fits the matrix alone; radial fits lens distortion too; mesh also a coarse mesh.
        iterations: parameters of each one.
        mask: excludes patches on nearer or moved objects.

    Raises:
        PairRejectedError: the photographs don't overlap, or have too few usable patches.
    """
    sigma = INITIAL_SIGMA
    for iteration in iterations:
        region = _central_part(covered_region(mapping, margin_px=2.0), iteration.centre)
        _check_region(region)
        if iteration.extra_sigma < 1:
            sigma = relative_blur(gray, mapping=mapping, region=region)
        images = Views(gray, region, sigma, iteration.extra_sigma).matched(mapping)
        patches = reliable_displacements(*images, window_px=iteration.window_px, region=region)
        patches = _exclude_masked(patches, mask)
        fits_lenses = iteration.fits_lenses and warp != "none"
        mapping = fit_mapping(
            mapping,
            to_matches(mapping, patches),
            region=region.times(mapping.scale),
            cells=_mesh_sizes(iteration.cells if warp == "mesh" else 0, region),
            lens_prior=lens_prior if fits_lenses else None,
        )
    return Refinement(mapping, sigma)


@dataclass(frozen=True)
class Views:
    """Both images on a region of the wide grid, at the same resolution.

    Attributes:
        gray: both photographs.
        region: of the wide frame.
        sigma: blur of the tele image to the resolution of the wide one, wide pixels.
        extra_sigma: additional blur of both images, wide pixels.
    """

    gray: GrayPair
    region: Region
    sigma: float
    extra_sigma: float = 0.0

    def matched(
        self, mapping: Mapping
    ) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
        """Return the wide image, and the resampled tele image with its brightness."""
        fixed = gaussian_blur(self.gray.wide[self.region.slices], self.extra_sigma)
        sigma_px = float(np.hypot(self.sigma, self.extra_sigma)) * mapping.ratio
        moving = downsample_to_wide(
            gaussian_blur(self.gray.tele, sigma_px), mapping, region=self.region
        )
        transfer = fit_gray_transfer(fixed, moving, region=self.region, scale=mapping.scale)
        return fixed, apply_gray_transfer(moving, transfer, region=self.region, scale=mapping.scale)


def fit_gray_transfer(
    fixed: Float32[np.ndarray, "h w"],
    moving: Float32[np.ndarray, "h w"],
    *,
    region: Region,
    scale: int,
) -> ColorTransfer:
    """Return the brightness transfer from the resampled tele image to the wide one."""
    return fit_coarse_transfer(fixed[..., None], moving[..., None], region=region, scale=scale)


def fit_coarse_transfer(
    fixed: Float32[np.ndarray, "h w c"],
    moving: Float32[np.ndarray, "h w c"],
    *,
    region: Region,
    scale: int,
) -> ColorTransfer:
    """Return the transfer between images of a region, fitted on a grid too coarse for detail."""
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
    gray: Float32[np.ndarray, "h w"], transfer: ColorTransfer, *, region: Region, scale: int
) -> Float32[np.ndarray, "h w"]:
    """Return a resampled tele image with the brightness of the wide one."""
    x = registered_of_wide(np.arange(region.left, region.right, dtype=np.float64), scale)
    y = registered_of_wide(np.arange(region.top, region.bottom, dtype=np.float64), scale)
    return transfer.apply(gray[..., None], x, y=y)[..., 0]


def reliable_displacements(
    fixed: Float32[np.ndarray, "h w"],
    moving: Float32[np.ndarray, "h w"],
    *,
    window_px: int,
    region: Region,
) -> PatchDisplacements:
    """Return the reliably measured displacements, with positions on the wide frame."""
    window_px = min(window_px, max(MIN_WINDOW_PX, min(fixed.shape) // PATCHES_ACROSS))
    patches = measure_displacements(
        fixed, moving, window_px=window_px, step_px=max(window_px // 2, 4)
    )
    is_near = np.hypot(*patches.displacements.T) < MAX_DISPLACEMENT * window_px
    reliable = patches.select(is_near & (patches.similarity > MIN_SIMILARITY))
    return replace(reliable, positions=reliable.positions + np.array([region.left, region.top]))


SIGMAS = (0.25, 0.35, 0.45, 0.55, 0.7, 0.9, 1.2)


def relative_blur(gray: GrayPair, *, mapping: Mapping, region: Region) -> float:
    """Return the Gaussian blur, in wide pixels, with which the tele image fits the wide one best.

    Only the middle of the region is used, at most 512 wide pixels along each side.
    """
    part = region.shrunk(max(0, region.width - 512) // 2, max(0, region.height - 512) // 2)
    misfit = _misfit(gray, mapping=mapping, part=part)
    errors = [misfit(sigma) for sigma in SIGMAS]
    best = int(np.argmin(errors))
    if best in (0, len(SIGMAS) - 1):
        return SIGMAS[best]
    near = slice(best - 1, best + 2)
    curve = np.polyfit(SIGMAS[near], errors[near], 2)
    return float(np.clip(-curve[1] / (2 * curve[0]), SIGMAS[best - 1], SIGMAS[best + 1]))


def _misfit(gray: GrayPair, *, mapping: Mapping, part: Region) -> Callable[[float], float]:
    """Return the function from a blur to the dissimilarity of the images in part of the frame."""
    sides = np.array([[part.left, part.top], [part.right, part.bottom]], np.float64)
    ends = registered_of_wide(sides, mapping.scale)
    corners = mapping(np.stack(np.meshgrid(*ends.T), -1).reshape(4, 2))  # the camera may be turned
    halo = 8 * mapping.ratio
    left, top = np.maximum(np.floor(corners.min(0) - halo), 0).astype(int)
    right, bottom = np.ceil(corners.max(0) + halo).astype(int)
    near = gray.tele[top:bottom, left:right]
    fixed = gray.wide[part.slices]
    positions = mapping.on_grid(
        registered_of_wide(np.arange(part.left, part.right, dtype=np.float64), mapping.scale),
        registered_of_wide(np.arange(part.top, part.bottom, dtype=np.float64), mapping.scale),
    )
    positions = (positions - [left, top]).astype(np.float32)

    def error(sigma: float) -> float:
        moving = cv2.remap(
            gaussian_blur(near, sigma * mapping.ratio), positions, NO_SECOND_MAP, cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        side = min(24, min(fixed.shape) - 4)
        patches = measure_displacements(fixed, moving, window_px=side, step_px=side)
        textured = patches.contrast > np.median(patches.contrast)
        return float(np.median(1 - patches.similarity[textured]))

    return error


def _central_part(region: Region, share: float) -> Region:
    lost = (1 - share) / 2
    return region.shrunk(int(region.width * lost), int(region.height * lost))


def _mesh_sizes(most: int, region: Region) -> list[tuple[int, int]]:
    """Return meshes of nearly square cells, coarse to fine, up to `most` on the longer side."""
    longer = max(region.width, region.height)
    return [
        (max(1, round(n * region.height / longer)), max(1, round(n * region.width / longer)))
        for n in range(1, most + 1)
    ]


def _check_region(region: Region) -> None:
    if min(region.width, region.height) < MIN_REGION_PX:
        problem = f"the photographs share only {region.width}x{region.height} px of the wide one"
        raise PairRejectedError("overlap", f"{problem}; {MIN_REGION_PX} px a side are needed")


def _exclude_masked(patches: PatchDisplacements, mask: RegionMask | None) -> PatchDisplacements:
    """Return the patches outside the mask.

    Raises:
        PairRejectedError: too few are left.
    """
    if mask is not None:
        patches = patches.select(mask.is_unmasked(patches.positions))
    if len(patches) < MIN_PATCHES:
        problem = f"only {len(patches)} patches look alike in both photographs"
        raise PairRejectedError("similarity", f"{problem}; {MIN_PATCHES} are needed")
    return patches
