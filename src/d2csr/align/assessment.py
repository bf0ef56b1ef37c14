"""Assessment of a registration: its scores, its mask, and the colors of the tele photograph."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from d2csr.align.photo import Photo
from d2csr.align.registration.blur import directional_blur, min_detail_ratio
from d2csr.align.registration.dense import DenseRegistration
from d2csr.align.registration.features import CoarseRegistration
from d2csr.align.registration.field import DisplacementField, unfold
from d2csr.align.registration.fit import to_matches
from d2csr.align.registration.lucas_kanade import PatchDisplacements, measure_displacements
from d2csr.align.registration.photometric import ColorTransfer
from d2csr.align.registration.quality import (
    TEXTURED,
    ColorScores,
    ContentScores,
    GeometryScores,
    Scores,
    SharpnessScores,
    TrustScores,
    build_mask,
    grid_error_px,
    parallax_share,
    residual_percentiles_px,
)
from d2csr.align.registration.refine import (
    GrayPair,
    Refinement,
    Views,
    fit_coarse_transfer,
    reliable_displacements,
)
from d2csr.align.registration.transform import Mapping, registered_of_wide
from d2csr.align.registration.trust import (
    SOFTENING_PX,
    build_confidence,
    has_texture,
    is_inside_tele,
    is_unchanged,
    trusted_pixels,
)
from d2csr.align.registration.warp import downsample_to_wide, gaussian_blur
from d2csr.core.geometry import Region

RESIDUAL_WINDOW_PX, RESIDUAL_STEP_PX = 24, 8
GRID_WINDOW_PX = 12


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
    transfer, color = _match_colors(
        wide, tele, mapping=mapping, views=Views(gray, region, sigma), mask=mask
    )
    images, features = (fixed, moving), coarse.inliers
    scores = Scores(
        _score_geometry(
            mapping, patches, images=images, region=region, mask=mask, features=features
        ),
        _score_content(patches, mask),
        _score_sharpness(fixed, moving, sigma=sigma, mask=np.full_like(mask, 255)),
        color,
        _score_trust(fixed, mask, scale=mapping.scale),
    )
    offset = np.array([region.left, region.top])
    on_frame = replace(patches, positions=patches.positions + offset)
    return Registration(mapping, region, transfer, scores, on_frame, mask)


def _trust_field(
    mapping: Mapping, dense: DenseRegistration, *, views: Views
) -> tuple[Mapping, Bool[np.ndarray, "h w"]]:
    """Return the mapping with the field, without folds, and the pixels where it is trusted."""
    mapping = replace(mapping, field=dense.field)
    trusted = trusted_pixels(build_confidence(dense, views.matched(mapping)))
    trusted &= is_inside_tele(mapping, views.region)
    values = unfold(dense.field.values, trusted)
    trusted &= is_unchanged(dense.field.values, values)
    return replace(mapping, field=DisplacementField(views.region, values)), trusted


def assess_dense(
    wide: Photo,
    tele: Photo,
    *,
    views: Views,
    start: Registration,
    dense: DenseRegistration,
) -> Registration:
    """Return the registration with a dense field added to a global one, trusted by place."""
    mapping, trusted = _trust_field(start.mapping, dense, views=views)
    mask = np.where(trusted, np.uint8(255), np.uint8(0))
    fixed, moving = views.matched(mapping)
    patches = measure_displacements(
        fixed, moving, window_px=_residual_window_px(fixed.shape), step_px=RESIDUAL_STEP_PX
    )
    column, row = patches.positions.astype(int).T
    used = patches.select(trusted[row, column])
    transfer, color = _match_colors(wide, tele, mapping=mapping, views=views, mask=mask)
    median_px, p95_px = residual_percentiles_px(patches, mask, scale=mapping.scale)
    square_px = float(np.mean(dense.deviation_px[trusted] ** 2)) if trusted.any() else np.inf
    scores = Scores(
        replace(
            start.scores.geometry,
            residual_median_px=median_px,
            residual_p95_px=p95_px,
            grid_error_px=mapping.scale * float(np.sqrt(square_px)),
        ),
        replace(_score_content(patches, mask), similarity=_score_content(used, mask).similarity),
        _score_sharpness(fixed, moving, sigma=views.sigma, mask=mask),
        color,
        _score_trust(fixed, mask, scale=mapping.scale),
        is_dense=True,
    )
    offset = np.array([views.region.left, views.region.top])
    on_frame = replace(patches, positions=patches.positions + offset)
    return Registration(mapping, views.region, transfer, scores, on_frame, mask)


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
    fixed: Float32[np.ndarray, "h w"],
    moving: Float32[np.ndarray, "h w"],
    *,
    sigma: float,
    mask: UInt8[np.ndarray, "h w"],
) -> SharpnessScores:
    """Return blur and detail of the tele image relative to the wide one, where the mask isn't 0."""
    blur = directional_blur(fixed, moving, sigma=sigma, mask=mask) or (sigma, sigma)
    detail = min_detail_ratio(fixed, moving, mask=mask)
    return SharpnessScores(*blur, 1.0 if detail is None else detail)


def _score_trust(
    fixed: Float32[np.ndarray, "h w"], mask: UInt8[np.ndarray, "h w"], *, scale: int
) -> TrustScores:
    """Return the amount of texture that training may use."""
    textured = has_texture(gaussian_blur(fixed, SOFTENING_PX))
    used = int((textured & (mask > 0)).sum())
    return TrustScores(used / max(int(textured.sum()), 1), used * scale**2 / 1e6)


def _residual_window_px(shape: tuple[int, ...]) -> int:
    return min(RESIDUAL_WINDOW_PX, min(shape) - 4)


def _match_colors(
    wide: Photo,
    tele: Photo,
    *,
    mapping: Mapping,
    views: Views,
    mask: UInt8[np.ndarray, "h w"],
) -> tuple[ColorTransfer, ColorScores]:
    """Return the color transfer from the tele photograph to the wide one, and its scores."""
    region, sigma = views.region, views.sigma
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
    used = mask > 0 if mapping.field is not None else np.ones_like(mask, bool)
    return transfer, ColorScores(
        # exponent 2.2: the gain is one of sRGB values
        exposure_ev=2.2 * float(np.log2(max(transfer.gains[1], 1e-3))),
        colour_residual=float(np.median(difference[used] if used.any() else difference)),
        saturated=float((fixed.max(axis=2) >= 0.985).mean()),
    )


def _blurred_difference(
    a: Float32[np.ndarray, "h w 3"], b: Float32[np.ndarray, "h w 3"]
) -> Float32[np.ndarray, "h w 3"]:
    """Return absolute color differences, averaged over several pixels against noise and edges."""
    return np.abs(np.stack([gaussian_blur(a[..., c] - b[..., c], 3.0) for c in range(3)], axis=-1))
