"""From two photographs to a pair, step by step, named as in the paper (Sec. 4.1, supplement B)."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from d2csr.align.camera_info import MIN_RATIO, focal_ratio
from d2csr.align.photo import Photo
from d2csr.align.registration.blur import directional_blur, min_detail_ratio
from d2csr.align.registration.features import CoarseRegistration, register_coarse
from d2csr.align.registration.fit import matches_of
from d2csr.align.registration.lens import UNKNOWN_LENSES, Lens, LensSpec, resolve_lenses
from d2csr.align.registration.lucas_kanade import Displacements, measure_displacements
from d2csr.align.registration.photometric import ColorTransfer
from d2csr.align.registration.quality import (
    TEXTURED,
    Scores,
    build_mask,
    check_quality,
    grid_error_px,
    parallax_share,
    residual_px,
)
from d2csr.align.registration.refine import (
    EVERYTHING,
    ROUNDS,
    Ablation,
    Masked,
    Refinement,
    Views,
    apply_gray_transfer,
    coarse_tone,
    refine,
    seen_patches,
)
from d2csr.align.registration.transform import Mapping, covered_region, registered_of_wide
from d2csr.align.registration.warp import TAPS_PX, blurred, downsample_to_wide, gray01, warp
from d2csr.core.errors import PairRejectedError
from d2csr.core.geometry import Region

LEAST_LR_PX = 48
RESIDUAL_WINDOW_PX = 24
MASK_WINDOW_PX, MASK_STEP_PX = 16, 4
AGAIN_ABOVE = 0.05  # of a pair masked: less changes nothing
MASK_SIGMA = 1.0  # aliasing alone must mask nothing

Warp = Literal["auto", "radial", "none"]


@dataclass(frozen=True)
class Settings:
    """How pairs are made.

    Attributes:
        scale: HR pixels to an LR pixel.
        lens: where the lenses' distortion is known from.
        warp: none (the matrix alone), radial (with three coefficients of both lenses), auto (a mesh
            too, where held-out patches are better explained with it).
        match_colours: give the HR image the LR image's brightness and colours.
        edge_px: LR pixels cropped from every edge at the end.
        centre: share of the covered area's sides that is kept, against lens distortion.
    """

    scale: int
    lens: LensSpec = UNKNOWN_LENSES
    warp: Warp = "auto"
    match_colours: bool = True
    edge_px: int = 2
    centre: float = 1.0


@dataclass(frozen=True)
class Registration:
    """How two photographs lie, and how good that is; no image is made yet.

    Attributes:
        mapping: from the registered grid to the tele photograph.
        region: of the wide frame, that the pair will show.
        tone: of red, green and blue: the wide image's look.
        scores: what the pair is judged by.
        patches: displacements that are left, places on the wide frame.
        mask: on the region; 0 = avoid.
    """

    mapping: Mapping
    region: Region
    tone: ColorTransfer
    scores: Scores
    patches: Displacements
    mask: UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class AlignedPair:
    """A pair: the wide image's own pixels, and the tele image on their grid times the scale."""

    lr: np.ndarray
    hr: UInt8[np.ndarray, "sh sw 3"]
    registered: Registration


def align(wide: Photo, tele: Photo, *, settings: Settings) -> AlignedPair:
    """Return the training pair of two photographs.

    Raises:
        PairRejectedError: they make none, with the reason.
    """
    registered = register(wide, tele, settings=settings)
    check_quality(registered.scores, scale=settings.scale)
    return make_pair(wide, tele, registered=registered, settings=settings)


def register(
    wide: Photo, tele: Photo, *, settings: Settings, switches: Ablation = EVERYTHING
) -> Registration:
    """Return how the photographs lie, with every score, whatever the scores are.

    Args:
        wide: what becomes LR.
        tele: what becomes HR.
        settings: how pairs are made.
        switches: parts that a comparison leaves out, on top of the settings.

    Raises:
        PairRejectedError: it can't be told at all, or the focal ratio is too small for the scale.
    """
    lenses = resolve_lenses(
        wide, tele, choice=settings.lens
    )  # 1. lens undistortion, undone in coordinates
    gray = gray01(wide.pixels), gray01(tele.pixels)
    rough = register_coarse(  # 2. SIFT and RANSAC on the central area
        *gray, scale=settings.scale, ratio=focal_ratio(wide.facts, tele.facts), lenses=lenses
    )
    mapping = Mapping(settings.scale, wide.size, tele.size, rough.matrix, *lenses)
    refuse_small_ratio(mapping.ratio, scale=settings.scale)
    switches = replace(
        switches,
        radial=switches.radial and settings.warp != "none",
        mesh=switches.mesh and settings.warp == "auto",
    )
    refined = refine(*gray, mapping=mapping, switches=switches)  # 3. to 6., iterated
    region = final_region(refined.mapping, settings)  # 7. edge crop
    found = assess(wide, tele, gray, refined, region, rough)
    last = replace(switches, rounds=ROUNDS[-1:])
    for _ in range(switches.again):  # 8. again, what stands nearer having no say
        if found.scores.masked < AGAIN_ABOVE:
            break
        masked = Masked(found.region, found.mask)
        try:
            refined = refine(
                *gray, mapping=found.mapping, switches=last, masked=masked, straight=mapping
            )
            region = final_region(refined.mapping, settings)
        except PairRejectedError:  # too little is left to fit: the mask stands
            break
        found = assess(wide, tele, gray, refined, region, rough)
    return found


def make_pair(
    wide: Photo, tele: Photo, *, registered: Registration, settings: Settings
) -> AlignedPair:
    """Return the images: LR pixels copied, HR pixels interpolated once from the source."""
    region = registered.region
    tone = registered.tone if settings.match_colours else None
    hr = warp(tele.pixels, registered.mapping, region=region.times(settings.scale), tone=tone)
    return AlignedPair(wide.pixels[region.slices], hr, registered)


def refuse_small_ratio(ratio: float, *, scale: int) -> None:
    """Refuse a zoom that falls short of the scale: HR would hold no more than LR enlarged.

    Raises:
        PairRejectedError: with the largest scale that the focal lengths bear.
    """
    if ratio >= MIN_RATIO * scale:
        return
    largest = int(ratio / MIN_RATIO)
    remedy = f"the largest honest scale is {largest}" if largest >= 2 else "no scale is honest"
    reason = f"the focal ratio is {ratio:.2f}, below {MIN_RATIO:g} of scale {scale}; {remedy}"
    raise PairRejectedError("ratio", reason)


def final_region(mapping: Mapping, settings: Settings) -> Region:
    """Return the part of the wide frame that the pair shows, edges cropped.

    Raises:
        PairRejectedError: nothing worth keeping is left.
    """
    covered = covered_region(mapping, margin_px=float(TAPS_PX))
    lost = (1 - settings.centre) / 2
    region = covered.shrunk(
        settings.edge_px + int(covered.width * lost), settings.edge_px + int(covered.height * lost)
    )
    if min(region.width, region.height) < LEAST_LR_PX:
        problem = f"only {region.width}x{region.height} LR px would be left"
        raise PairRejectedError("overlap", f"{problem}; {LEAST_LR_PX} a side are needed")
    return region


def assess(  # noqa: PLR0917 - all that is known of a pair
    wide: Photo,
    tele: Photo,
    gray: tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "th tw"]],
    refined: Refinement,
    region: Region,
    rough: CoarseRegistration,
) -> Registration:
    """Return the registration with its scores, mask and colours, measured on the final region."""
    mapping, scale = refined.mapping, refined.mapping.scale
    views = Views(*gray, region, refined.sigma)
    fixed, moving = views.fixed, views.moving(mapping)
    moving = apply_gray_transfer(
        moving,
        coarse_gray_tone(fixed, moving, region=region, scale=scale),
        region=region,
        scale=scale,
    )
    patches = measure_displacements(
        fixed, moving, window_px=min(RESIDUAL_WINDOW_PX, min(fixed.shape) - 4), step_px=8
    )
    soft = blurred(fixed, MASK_SIGMA), blurred(moving, MASK_SIGMA)
    fine, soft_fine = (
        measure_displacements(*views, window_px=MASK_WINDOW_PX, step_px=MASK_STEP_PX)
        for views in ((fixed, moving), soft)
    )
    mask = build_mask(fine, soft[0], reduced=soft[1], soft_patches=soft_fine, step_px=MASK_STEP_PX)
    tone, colour_residual = _colours(
        wide, tele, mapping=mapping, region=region, sigma=refined.sigma
    )
    votes = seen_patches(fixed, moving, window_px=12, region=region)
    matches = matches_of(mapping, votes.places, moves=votes.moves, information=votes.information)
    off_px, sure = residual_px(patches, scale=scale)
    column, row = patches.places.astype(int).T
    sure &= mask[row, column] > 0
    off_px = off_px[sure]
    textured = patches.contrast > TEXTURED
    blur = directional_blur(fixed, moving, sigma=refined.sigma) or (refined.sigma,) * 2
    detail = min_detail_ratio(fixed, moving)
    scores = Scores(
        residual_median_px=float(np.median(off_px)) if sure.any() else np.inf,
        residual_p95_px=float(np.percentile(off_px, 95)) if sure.any() else np.inf,
        grid_error_px=grid_error_px(mapping, matches, region=region, mask=mask),
        parallax=parallax_share(patches),
        similarity=float(np.median(patches.similarity[textured])) if textured.any() else 0.0,
        textured=float(textured.sum() / max(1, _patches_in(fixed.shape))),
        blur_minor=blur[0],
        blur_major=blur[1],
        detail=1.0 if detail is None else detail,
        exposure_ev=_stops(tone),
        colour_residual=colour_residual,
        saturated=_saturated(wide.pixels[region.slices]),
        overlap=region.width
        * region.height
        * mapping.ratio**2
        / (tele.size.width * tele.size.height),
        masked=float((mask == 0).mean()),
        ratio=mapping.ratio,
        features=rough.matches,
    )
    placed = Displacements(
        patches.places + np.array([region.left, region.top]), *list(vars(patches).values())[1:]
    )
    return Registration(mapping, region, tone, scores, placed, mask)


def coarse_gray_tone(
    fixed: np.ndarray, moving: np.ndarray, *, region: Region, scale: int
) -> ColorTransfer:
    """Return the tone of gray over the final region."""
    return coarse_tone(fixed[..., None], moving[..., None], region=region, scale=scale)


def _patches_in(shape: tuple[int, ...]) -> int:
    side = min(RESIDUAL_WINDOW_PX, min(shape) - 4)
    return ((shape[0] - 2 - side) // 8 + 1) * ((shape[1] - 2 - side) // 8 + 1)


def _colours(
    wide: Photo, tele: Photo, *, mapping: Mapping, region: Region, sigma: float
) -> tuple[ColorTransfer, float]:
    """Return the tone that gives HR the look of LR, and what it leaves: median difference 0..1."""
    top = np.iinfo(wide.pixels.dtype).max
    fixed = wide.pixels[region.slices].astype(np.float32) / top
    moving = np.empty_like(fixed)
    for channel in range(3):  # one at a time: a 50-megapixel channel is 200 MB in float32
        values = tele.pixels[..., channel].astype(np.float32) / np.iinfo(tele.pixels.dtype).max
        moving[..., channel] = downsample_to_wide(
            blurred(values, sigma * mapping.ratio), mapping, region=region
        )
    tone = coarse_tone(fixed, moving, region=region, scale=mapping.scale)
    x, y = (
        registered_of_wide(np.arange(start, stop, dtype=np.float64), mapping.scale)
        for start, stop in ((region.left, region.right), (region.top, region.bottom))
    )
    apart = blurred_difference(fixed, tone.applied(moving, x, y=y))
    return tone, float(np.median(apart))


def blurred_difference(
    a: Float32[np.ndarray, "h w 3"], b: Float32[np.ndarray, "h w 3"]
) -> Float32[np.ndarray, "h w 3"]:
    """Return how far colours differ over a few pixels, where noise and edges average out."""
    return np.abs(np.stack([blurred(a[..., c] - b[..., c], 3.0) for c in range(3)], axis=-1))


def _stops(tone: ColorTransfer) -> float:
    """Return the exposure difference that a gain on sRGB values stands for (exponent 2.2)."""
    return 2.2 * float(np.log2(max(tone.gains[1], 1e-3)))


def _saturated(pixels: np.ndarray) -> float:
    top = np.iinfo(pixels.dtype).max
    return float((pixels.max(axis=2) >= 0.985 * top).mean())


def lens_json(lens: Lens) -> dict[str, Any]:
    """Return a lens' coefficients for the manifest."""
    return {name: float(f"{value:.6g}") for name, value in vars(lens).items()}
