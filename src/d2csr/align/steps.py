"""Alignment of two photographs step by step, as in the paper (section 4.1, supplement B)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from d2csr.align.assessment import Registration, assess, assess_dense
from d2csr.align.camera_info import MIN_RATIO, focal_ratio
from d2csr.align.photo import Photo
from d2csr.align.registration.dense import explain_held_out, register_densely
from d2csr.align.registration.features import register_coarse
from d2csr.align.registration.lens import DEFAULT_LENSES, LensSpec, resolve_lenses
from d2csr.align.registration.quality import check_quality
from d2csr.align.registration.refine import (
    ITERATIONS,
    GrayPair,
    RegionMask,
    Views,
    refine,
)
from d2csr.align.registration.refine import Warp as GlobalWarp
from d2csr.align.registration.transform import Mapping, covered_region
from d2csr.align.registration.warp import TAPS_PX, to_gray01, warp
from d2csr.core.errors import PairRejectedError, format_beyond
from d2csr.core.geometry import Region

MIN_LR_PX = 48
MASKED_ITERATIONS = 2  # repetitions of the last iteration without masked patches
MIN_MASKED = 0.05  # share of a pair; fewer masked patches hardly change the mapping
MIN_EXPLAINED_PX = 0.06  # RMS, wide pixels; about the error of a dense field itself
MAX_GLOBAL_MASKED = 0.5  # share of a pair; with more, a field may add much to the area

Warp = Literal["auto", "global", "dense", "radial", "none"]


@dataclass(frozen=True)
class Settings:
    """Parameters of the alignment of a pair.

    Attributes:
        scale: HR pixels per LR pixel, along one axis.
        lens: source of the lens distortion that registration starts from.
        warp: none (the matrix alone), radial (and distortion of both lenses), global (and a mesh,
            if it lowers the error on held-out patches), dense (and a field of displacements), auto
            (a field if one is needed).
        match_color: whether HR gets the brightness and colors of LR.
        edge_px: LR pixels cropped from every edge at the end.
        centre: share of the sides of the common area that is used, to avoid lens distortion.
    """

    scale: int
    lens: LensSpec = DEFAULT_LENSES
    warp: Warp = "auto"
    match_color: bool = True
    edge_px: int = 2
    centre: float = 1.0

    @property
    def global_warp(self) -> GlobalWarp:
        """Return the corrections of the global mapping."""
        return self.warp if self.warp in ("radial", "none") else "mesh"


@dataclass(frozen=True)
class AlignedPair:
    """A pair: pixels of the wide photograph, and the tele photograph warped to their fine grid."""

    lr: np.ndarray
    hr: UInt8[np.ndarray, "sh sw 3"]
    registration: Registration


def align(wide: Photo, tele: Photo, *, settings: Settings) -> AlignedPair:
    """Return the training pair of two photographs.

    Raises:
        PairRejectedError: they can't be registered, or a score breaks its limit.
    """
    registration = register(wide, tele, settings=settings)
    check_quality(registration.scores, scale=settings.scale)
    return make_pair(wide, tele, registration=registration, settings=settings)


def register(wide: Photo, tele: Photo, *, settings: Settings) -> Registration:
    """Return the registration of two photographs, whatever its scores.

    Raises:
        PairRejectedError: registration fails, or the focal ratio is too small.
        DataError: lensfun doesn't know the lens.
    """
    lenses = resolve_lenses(wide, tele, spec=settings.lens)  # 1. lens undistortion of coordinates
    gray = GrayPair(to_gray01(wide.pixels), to_gray01(tele.pixels))
    initial = Mapping(settings.scale, wide.size, tele.size, np.eye(3), *lenses)
    coarse = register_coarse(  # 2. SIFT and MAGSAC
        *gray, initial=initial, focal_ratio=focal_ratio(wide.camera, tele.camera)
    )
    check_focal_ratio(coarse.mapping.ratio, scale=settings.scale)
    refinement = refine(  # 3. to 6., iterated
        gray, mapping=coarse.mapping, lens_prior=coarse.mapping, warp=settings.global_warp
    )
    region = final_region(refinement.mapping, settings)  # 7. edge crop
    registration = assess(
        wide, tele, gray=gray, coarse=coarse, refinement=refinement, region=region
    )
    for _ in range(MASKED_ITERATIONS):  # 8. again, without masked patches
        if registration.scores.content.masked < MIN_MASKED:
            break
        mask = RegionMask(registration.region, registration.mask)
        try:
            refinement = refine(
                gray, mapping=registration.mapping, lens_prior=coarse.mapping,
                warp=settings.global_warp, iterations=ITERATIONS[-1:], mask=mask,
            )  # fmt: skip
            region = final_region(refinement.mapping, settings)
        except PairRejectedError:  # too few patches are left to fit
            break
        registration = assess(
            wide, tele, gray=gray, coarse=coarse, refinement=refinement, region=region
        )
    if settings.warp not in ("auto", "dense"):
        return registration
    views = Views(gray, registration.region, refinement.sigma)
    return add_field(wide, tele, views=views, start=registration, settings=settings)  # 9. field


def add_field(
    wide: Photo, tele: Photo, *, views: Views, start: Registration, settings: Settings
) -> Registration:
    """Return the dense registration, or the global one if that is as good.

    A global registration that is good enough to be accepted is kept, unless a field explains more
    of the displacements on patches that it wasn't fitted to, or adds much to the area.
    """
    keeps_good = settings.warp == "auto" and _is_accepted(start, scale=settings.scale)
    is_small = start.scores.content.masked > MAX_GLOBAL_MASKED
    if keeps_good and not is_small and not _needs_field(views, start):
        return start
    dense = register_densely(views, start.mapping)
    result = assess_dense(wide, tele, views=views, start=start, dense=dense)
    if not keeps_good:
        return result
    has_more = result.scores.trust.trusted_share > start.scores.trust.trusted_share
    is_better = has_more or not is_small
    return result if is_better and _is_accepted(result, scale=settings.scale) else start


def _needs_field(views: Views, start: Registration) -> bool:
    """Return whether a field explains displacements that the global mapping leaves."""
    held_out = explain_held_out(views, start.mapping, used=start.mask > 0)
    return held_out.is_significant and held_out.explained_px > MIN_EXPLAINED_PX


def _is_accepted(registration: Registration, *, scale: int) -> bool:
    try:
        check_quality(registration.scores, scale=scale)
    except PairRejectedError:
        return False
    return True


def make_pair(
    wide: Photo, tele: Photo, *, registration: Registration, settings: Settings
) -> AlignedPair:
    """Return the images of a pair: LR pixels are copied, HR pixels are interpolated once."""
    region = registration.region
    transfer = registration.transfer if settings.match_color else None
    hr = warp(
        tele.pixels, registration.mapping, region=region.times(settings.scale), transfer=transfer
    )
    return AlignedPair(wide.pixels[region.slices], hr, registration)


def check_focal_ratio(ratio: float, *, scale: int) -> None:
    """Check that the zoom ratio is large enough: else HR has no more detail than enlarged LR.

    Raises:
        PairRejectedError: it is too small; names the largest possible scale.
    """
    if ratio >= MIN_RATIO * scale:
        return
    largest = int(ratio / MIN_RATIO)
    remedy = f"the largest possible scale is {largest}" if largest >= 2 else "no scale is possible"
    shown = format_beyond(ratio, MIN_RATIO * scale, spec=".2f")
    reason = f"the focal ratio is {shown}, below {MIN_RATIO:g} times the scale {scale}; {remedy}"
    raise PairRejectedError("ratio", reason)


def final_region(mapping: Mapping, settings: Settings) -> Region:
    """Return the region of the wide frame that the pair shows, edges cropped.

    Raises:
        PairRejectedError: it is too small.
    """
    covered = covered_region(mapping, margin_px=float(TAPS_PX))
    lost = (1 - settings.centre) / 2
    region = covered.shrunk(
        settings.edge_px + int(covered.width * lost), settings.edge_px + int(covered.height * lost)
    )
    if min(region.width, region.height) < MIN_LR_PX:
        problem = f"only {region.width}x{region.height} LR px would be left"
        raise PairRejectedError("overlap", f"{problem}; {MIN_LR_PX} px a side are needed")
    return region
