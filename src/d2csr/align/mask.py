"""The mask of an LR picture: places where the HR picture doesn't show the same, 0 = avoid."""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from d2csr.align.displacement import Displacements
from d2csr.align.refine import LEAST_LIKENESS

UNLIKE = 0.40  # likeness below which a textured patch shows something else
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


def mask_of(
    patches: Displacements,
    wide: Float32[np.ndarray, "h w"],
    *,
    reduced: Float32[np.ndarray, "h w"],
    soft_patches: Displacements,
    step_px: int,
) -> UInt8[np.ndarray, "h w"]:
    """Return 255 where a pair may be trained on, 0 where not.

    Args:
        patches: at every `step_px`, places on the grid of the pictures.
        wide: gray, blurred.
        reduced: the tele picture on the same grid, of the same resolution and brightness.
        soft_patches: of the blurred pictures, whose likeness aliasing doesn't lower.
        step_px: from patch to patch.
    """
    bad = _different(wide, reduced) | displaced(patches, wide.shape, step_px=step_px)
    unlike = (soft_patches.likeness < UNLIKE) & (soft_patches.contrast > CONTRAST)
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
    vote = (patches.likeness > LEAST_LIKENESS) / (patches.deviation_px**2 + ALIASING_PX**2)
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
