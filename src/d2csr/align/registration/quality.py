"""What a registered pair is worth: scores in plain units, and the limits they must keep.

The mask of an LR image: places where the HR image doesn't show the same, 0 = avoid.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from d2csr.align.registration.fit import Matches, fit_mapping
from d2csr.align.registration.lucas_kanade import Displacements
from d2csr.align.registration.refine import LEAST_SIMILARITY
from d2csr.align.registration.transform import Mapping as GridMapping
from d2csr.align.registration.transform import registered_of_wide
from d2csr.core.errors import PairRejectedError
from d2csr.core.geometry import Region

TEXTURED = 0.02  # contrast, 0..1, of a patch whose similarity and move mean something
SURE_PX = 0.15  # deviation, wide pixels, of a patch that the residual counts
APART_WIDE_PX = 0.5  # a patch farther off than this stands at another depth, or moved


@dataclass(frozen=True)
class Scores:
    """Figures a pair is judged by; `MEANINGS` says what each is."""

    residual_median_px: float
    residual_p95_px: float
    grid_error_px: float
    parallax: float
    similarity: float
    textured: float
    blur_minor: float
    blur_major: float
    detail: float
    exposure_ev: float
    colour_residual: float
    saturated: float
    overlap: float
    masked: float
    ratio: float
    features: int

    def as_json(self) -> dict[str, Any]:
        """Return the scores rounded to what they mean; None where nothing was left to measure."""
        return {
            name: (value if isinstance(value, int) else float(f"{value:.4g}"))
            if np.isfinite(value)
            else None
            for name, value in asdict(self).items()
        }


# Shown in the report too.
MEANINGS: Mapping[str, str] = {
    "residual_median_px": "displacement left in places that aren't masked, HR px; each patch's own "
    "noise is part of it",
    "residual_p95_px": "the same, 95th percentile",
    "grid_error_px": "how far mappings fitted to two halves of the patches differ, halved, HR px: "
    "what chance leaves of the grid, about twice the true error",
    "parallax": "share of textured patches that lie off the rest: other depths, moved things",
    "likeness": "median share of a textured patch's variance that the other image explains",
    "textured": "share of patches with texture to register by",
    "blur_minor": "blur from HR to LR, LR px, in the direction where it is least; below 0 the tele "
    "image is the softer one",
    "blur_major": "the same in the direction where it is most",
    "detail": "power of the reduced tele image by the wide one's, in the direction of the least; "
    "near 0 it was smeared over many pixels",
    "exposure_ev": "stops by which the tele image was darker (above 0) than the wide one",
    "colour_residual": "median difference of colours left after matching, 0 to 1",
    "saturated": "share of clipped pixels in LR",
    "overlap": "share of the tele frame that is in the pair",
    "masked": "share of LR pixels that training avoids",
    "ratio": "true ratio of the focal lengths, in pixels",
    "features": "SIFT features that agreed in the rough registration",
}


@dataclass(frozen=True)
class Limit:
    """A score's limit, and how its breach reads."""

    bound: Callable[[int], float]
    least: bool
    says: str


# Set on simulated and real pairs, good and wrong (docs/align.md); bounds may depend on the scale.
LIMITS: Mapping[str, Limit] = {
    "likeness": Limit(lambda _: 0.60, True, "patches look alike by {value:.2f}, below {bound:.2f}"),
    "textured": Limit(lambda _: 0.02, True, "only {value:.1%} of it has texture to register by"),
    "grid_error_px": Limit(
        lambda scale: 0.30 if scale <= 4 else 0.075 * scale,
        False,
        "the grid is known to {value:.2f} px only, above {bound:.2f}",
    ),
    "residual_median_px": Limit(
        lambda scale: 0.25 * scale,
        False,
        "half of it is displaced by more than {value:.2f} px, above {bound:.2f}",
    ),
    "parallax": Limit(
        lambda _: 0.35, False, "{value:.0%} of it lies off the rest (parallax), above {bound:.0%}"
    ),
    "blur_minor": Limit(
        lambda _: -0.30,
        True,
        "the tele image is hardly sharper than the wide one (blur {value:.2f} px of the wide, "
        "below {bound:.2f}): out of focus or shaken",
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
        lambda _: 2.0, False, "exposures are {value:.1f} stops apart, above {bound:.1f}"
    ),
    "colour_residual": Limit(
        lambda _: 0.05, False, "colours differ by {value:.3f} after matching, above {bound:.3f}"
    ),
    "saturated": Limit(lambda _: 0.30, False, "{value:.0%} of it is clipped, above {bound:.0%}"),
    "overlap": Limit(
        lambda _: 0.15, True, "only {value:.0%} of the tele frame is in both, below {bound:.0%}"
    ),
    "masked": Limit(lambda _: 0.75, False, "{value:.0%} of it would be masked, above {bound:.0%}"),
}


def check_quality(scores: Scores, *, scale: int) -> None:
    """Reject a pair one of whose scores breaks its limit; the first of the table is told first.

    Raises:
        PairRejectedError: with every breach in words.
    """
    breaches = []
    for name, limit in LIMITS.items():
        value, bound = getattr(scores, name), limit.bound(scale)
        value = abs(value) if name == "exposure_ev" else value
        if not np.isfinite(value):
            breaches.append((name, f"too little is left to tell its {name}"))
        elif not (value >= bound if limit.least else value <= bound):
            breaches.append((name, limit.says.format(value=value, bound=bound)))
    if breaches:
        raise PairRejectedError(breaches[0][0], "; ".join(says for _, says in breaches))


def residual_px(
    patches: Displacements, *, scale: int
) -> tuple[Float64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return each patch's displacement in HR pixels, and which patches know theirs."""
    return scale * np.hypot(*patches.moves.T), patches.deviation_px < SURE_PX


def parallax_share(patches: Displacements) -> float:
    """Return the share of textured patches off by more than chance and half a wide pixel."""
    textured = patches.only((patches.contrast > TEXTURED) & (patches.deviation_px < SURE_PX))
    if not len(textured):
        return 0.0
    return float((np.hypot(*textured.moves.T) > APART_WIDE_PX).mean())


def grid_error_px(
    mapping: GridMapping, matches: Matches, *, region: Region, mask: UInt8[np.ndarray, "h w"]
) -> float:
    """Return what chance leaves of the grid, in HR pixels RMS: halves of the patches fitted apart.

    Two halves' fits differ by twice the error of the fit to all, as each has half the patches. They
    are compared where the mask leaves LR pixels of the region to training.
    """
    fine = region.times(mapping.scale)
    side = 8 * float(np.sqrt(fine.width * fine.height / max(len(matches), 1)))
    block = np.floor((matches.registered - [fine.left, fine.top]) / side).astype(int)
    odd = block.sum(1) % 2 == 1
    rows, columns = (np.linspace(0, n - 1, 48).astype(int) for n in mask.shape)
    kept = mask[np.ix_(rows, columns)] > 0
    if min(odd.sum(), (~odd).sum()) < 12 or not kept.any():
        return float("inf")
    x = registered_of_wide(region.left + columns.astype(np.float64), mapping.scale)
    y = registered_of_wide(region.top + rows.astype(np.float64), mapping.scale)
    cells = [] if mapping.mesh is None else [mapping.mesh.cells]
    halves = [
        fit_mapping(
            mapping, matches.only(part), region=fine, cells=cells, straight=mapping
        ).on_grid(x, y)[kept]
        for part in (odd, ~odd)
    ]
    apart = np.hypot(*np.moveaxis(halves[0] - halves[1], -1, 0)) / mapping.tele_px_per_px
    return float(np.sqrt(np.mean(apart**2))) / 2


UNLIKE = 0.40  # similarity below which a textured patch shows something else
CONTRAST = 0.03
# Displaced: the mean move of the patches about a place, weighted by a Gaussian of the first figure,
# is above the second, wide pixels. Aliasing alone moves single patches by 0.3 at times, but not
# whole neighbourhoods; nearer planes do. Chosen on simulated pairs (docs/align.md).
DISPLACED = ((16.0, 0.12), (8.0, 0.25), (4.0, 0.5))
ALIASING_PX = 0.1  # what a patch is off by whatever it knows
LARGEST_MOVE_PX = 1.0  # counted of a patch: beyond it measures are wild
STILL = 5.0  # vote of every place for no move: one without texture about it is left alone
DIFFERENT = 0.10  # of full range, over a few pixels, after colours are matched
GROWTH_PX = 3


def build_mask(
    patches: Displacements,
    wide: Float32[np.ndarray, "h w"],
    *,
    reduced: Float32[np.ndarray, "h w"],
    soft_patches: Displacements,
    step_px: int,
) -> UInt8[np.ndarray, "h w"]:
    """Return 255 where a pair may be trained on, 0 where not.

    Args:
        patches: at every `step_px`, places on the grid of the images.
        wide: gray, blurred.
        reduced: the tele image on the same grid, of the same resolution and brightness.
        soft_patches: of the blurred images, whose similarity aliasing doesn't lower.
        step_px: from patch to patch.
    """
    bad = _different(wide, reduced) | displaced(patches, wide.shape, step_px=step_px)
    unlike = (soft_patches.similarity < UNLIKE) & (soft_patches.contrast > CONTRAST)
    for x, y in soft_patches.places[unlike]:
        left, top = round(x - step_px / 2), round(y - step_px / 2)
        bad[max(top, 0) : top + step_px, max(left, 0) : left + step_px] = True
    grown = cv2.dilate(bad.astype(np.uint8), np.ones((2 * GROWTH_PX + 1,) * 2, np.uint8))
    return np.where(grown > 0, np.uint8(0), np.uint8(255))


def displaced(
    patches: Displacements, shape: tuple[int, ...], *, step_px: int
) -> Bool[np.ndarray, "h w"]:
    """Return where neighbourhoods of patches lie off together: nearer things, moved things.

    Places with little texture are judged by what lies around them; without any, nothing shows.
    """
    cells = [side // step_px + 2 for side in shape]
    column, row = np.rint(patches.places / step_px).astype(int).T
    size_px = np.hypot(*patches.moves.T)
    vote = (patches.similarity > LEAST_SIMILARITY) / (patches.deviation_px**2 + ALIASING_PX**2)
    share = vote * np.minimum(1, LARGEST_MOVE_PX / np.maximum(size_px, 1e-9))
    sums = np.zeros((*cells, 3))
    np.add.at(sums, (row, column), np.stack([vote, *(share * patches.moves.T)], axis=-1))
    off = np.zeros(cells, bool)
    for sigma_px, limit_px in DISPLACED:
        votes, x, y = np.moveaxis(cv2.GaussianBlur(sums, (0, 0), sigma_px / step_px), -1, 0)
        off |= np.hypot(x, y) > limit_px * (votes + STILL)
    rows, columns = ((np.arange(side) + step_px // 2) // step_px for side in shape)
    return off[np.ix_(rows, columns)]


def _different(wide: np.ndarray, reduced: np.ndarray) -> np.ndarray:
    """Return where brightness differs over more than single pixels: clipping, reflections."""
    difference = cv2.GaussianBlur(wide - reduced, (0, 0), 2.0)
    return np.abs(difference) > DIFFERENT
