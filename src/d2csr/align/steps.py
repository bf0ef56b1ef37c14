"""Alignment of two photographs step by step, as in the paper (section 4.1, supplement B)."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, UInt8

from d2csr.align.camera_info import MIN_RATIO, focal_ratio
from d2csr.align.photo import Photo
from d2csr.align.registration.blur import directional_blur, min_detail_ratio
from d2csr.align.registration.features import CoarseRegistration, register_coarse
from d2csr.align.registration.fit import to_matches
from d2csr.align.registration.lens import DEFAULT_LENSES, LensSpec, resolve_lenses
from d2csr.align.registration.lucas_kanade import PatchDisplacements, measure_displacements
from d2csr.align.registration.photometric import ColorTransfer
from d2csr.align.registration.quality import (
    TEXTURED,
    ColorScores,
    ContentScores,
    GeometryScores,
    Scores,
    SharpnessScores,
    build_mask,
    check_quality,
    grid_error_px,
    parallax_share,
    residual_percentiles_px,
)
from d2csr.align.registration.refine import (
    ITERATIONS,
    GrayPair,
    Refinement,
    RegionMask,
    Views,
    Warp,
    fit_coarse_transfer,
    refine,
    reliable_displacements,
)
from d2csr.align.registration.transform import Mapping, covered_region, registered_of_wide
from d2csr.align.registration.warp import (
    TAPS_PX,
    downsample_to_wide,
    gaussian_blur,
    to_gray01,
    warp,
)
from d2csr.core.errors import PairRejectedError, format_beyond
from d2csr.core.geometry import Region

MIN_LR_PX = 48
RESIDUAL_WINDOW_PX, RESIDUAL_STEP_PX = 24, 8
GRID_WINDOW_PX = 12
MASKED_ITERATIONS = 2  # repetitions of the last iteration without masked patches
MIN_MASKED = 0.05  # share of a pair; fewer masked patches hardly change the mapping


@dataclass(frozen=True)
class Settings:
    """Parameters of the alignment of a pair.

    Attributes:
        scale: HR pixels per LR pixel, along one axis.
        lens: source of the lens distortion that registration starts from.
        warp: none (the matrix alone), radial (and distortion of both lenses), auto (and a mesh, if
            it lowers the error on held-out patches).
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


@dataclass(frozen=True)
class Registration:
    """Registration of two photographs and its quality, before HR is interpolated.

    Attributes:
        mapping: from the registered grid to the tele photograph.
        region: of the wide frame that the pair shows.
        transfer: of the colors of the tele photograph to those of the wide one.
        scores: quality of the pair.
        patches: remaining displacements, with positions on the wide frame.
        mask: of the region's size; 0 = avoid.
    """

    mapping: Mapping
    region: Region
    transfer: ColorTransfer
    scores: Scores
    patches: PatchDisplacements
    mask: UInt8[np.ndarray, "h w"]


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
        gray, mapping=coarse.mapping, lens_prior=coarse.mapping, warp=settings.warp
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
                gray, mapping=registration.mapping, lens_prior=coarse.mapping, warp=settings.warp,
                iterations=ITERATIONS[-1:], mask=mask,
            )  # fmt: skip
            region = final_region(refinement.mapping, settings)
        except PairRejectedError:  # too few patches are left to fit
            break
        registration = assess(
            wide, tele, gray=gray, coarse=coarse, refinement=refinement, region=region
        )
    return registration


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


def assess(
    wide: Photo,
    tele: Photo,
    *,
    gray: GrayPair,
    coarse: CoarseRegistration,
    refinement: Refinement,
    region: Region,
) -> Registration:
    """Return the registration with its scores, mask and colors, measured on the final region."""
    mapping, sigma = refinement.mapping, refinement.sigma
    fixed, moving = Views(gray, region, sigma).matched(mapping)
    window_px = _residual_window_px(fixed.shape)
    patches = measure_displacements(fixed, moving, window_px=window_px, step_px=RESIDUAL_STEP_PX)
    mask = build_mask(fixed, moving)
    transfer, color = _match_colors(wide, tele, mapping=mapping, region=region, sigma=sigma)
    images, features = (fixed, moving), coarse.inliers
    scores = Scores(
        _score_geometry(
            mapping, patches, images=images, region=region, mask=mask, features=features
        ),
        _score_content(patches, mask),
        _score_sharpness(fixed, moving, sigma=sigma),
        color,
    )
    offset = np.array([region.left, region.top])
    on_frame = replace(patches, positions=patches.positions + offset)
    return Registration(mapping, region, transfer, scores, on_frame, mask)


def _score_geometry(
    mapping: Mapping,
    patches: PatchDisplacements,
    *,
    images: tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]],
    region: Region,
    mask: UInt8[np.ndarray, "h w"],
    features: int,
) -> GeometryScores:
    """Return the scores of a mapping; `features` is a result of the coarse registration."""
    residual_median_px, residual_p95_px = residual_percentiles_px(
        patches, mask, scale=mapping.scale
    )
    reliable = reliable_displacements(*images, window_px=GRID_WINDOW_PX, region=region)
    matches = to_matches(mapping, reliable)
    shown_px = region.width * region.height * mapping.ratio**2
    return GeometryScores(
        residual_median_px=residual_median_px,
        residual_p95_px=residual_p95_px,
        grid_error_px=grid_error_px(mapping, matches, region=region, mask=mask),
        parallax=parallax_share(patches),
        overlap=shown_px / (mapping.tele.width * mapping.tele.height),
        ratio=mapping.ratio,
        features=features,
    )


def _score_content(patches: PatchDisplacements, mask: UInt8[np.ndarray, "h w"]) -> ContentScores:
    """Return similarity, texture and masked share of a pair."""
    textured = patches.contrast > TEXTURED
    side = _residual_window_px(mask.shape)
    count = int(np.prod([(length - 2 - side) // RESIDUAL_STEP_PX + 1 for length in mask.shape]))
    return ContentScores(
        similarity=float(np.median(patches.similarity[textured])) if textured.any() else 0.0,
        textured=float(textured.sum() / max(1, count)),
        masked=float((mask == 0).mean()),
    )


def _score_sharpness(
    fixed: Float32[np.ndarray, "h w"], moving: Float32[np.ndarray, "h w"], *, sigma: float
) -> SharpnessScores:
    """Return blur and detail of the tele image relative to the wide one."""
    blur = directional_blur(fixed, moving, sigma=sigma) or (sigma, sigma)
    detail = min_detail_ratio(fixed, moving)
    return SharpnessScores(*blur, 1.0 if detail is None else detail)


def _residual_window_px(shape: tuple[int, ...]) -> int:
    return min(RESIDUAL_WINDOW_PX, min(shape) - 4)


def _match_colors(
    wide: Photo, tele: Photo, *, mapping: Mapping, region: Region, sigma: float
) -> tuple[ColorTransfer, ColorScores]:
    """Return the color transfer from the tele photograph to the wide one, and its scores."""
    top = np.iinfo(wide.pixels.dtype).max
    fixed = wide.pixels[region.slices].astype(np.float32) / top
    moving = np.empty_like(fixed)
    for channel in range(3):  # one at a time: a 50-megapixel channel is 200 MB in float32
        values = tele.pixels[..., channel].astype(np.float32) / np.iinfo(tele.pixels.dtype).max
        moving[..., channel] = downsample_to_wide(
            gaussian_blur(values, sigma * mapping.ratio), mapping, region=region
        )
    transfer = fit_coarse_transfer(fixed, moving, region=region, scale=mapping.scale)
    x, y = (
        registered_of_wide(np.arange(start, stop, dtype=np.float64), mapping.scale)
        for start, stop in ((region.left, region.right), (region.top, region.bottom))
    )
    difference = _blurred_difference(fixed, transfer.apply(moving, x, y=y))
    return transfer, ColorScores(
        # exponent 2.2: the gain is one of sRGB values
        exposure_ev=2.2 * float(np.log2(max(transfer.gains[1], 1e-3))),
        colour_residual=float(np.median(difference)),
        saturated=float((fixed.max(axis=2) >= 0.985).mean()),
    )


def _blurred_difference(
    a: Float32[np.ndarray, "h w 3"], b: Float32[np.ndarray, "h w 3"]
) -> Float32[np.ndarray, "h w 3"]:
    """Return absolute color differences, averaged over several pixels against noise and edges."""
    return np.abs(np.stack([gaussian_blur(a[..., c] - b[..., c], 3.0) for c in range(3)], axis=-1))
