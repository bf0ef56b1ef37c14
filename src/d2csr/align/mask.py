"""The mask of an LR picture: places where the HR picture doesn't show the same, 0 = avoid."""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from d2csr.align.displacement import Displacements

UNLIKE = 0.40  # likeness below which a textured patch shows something else
CONTRAST = 0.03
DISPLACED_WIDE_PX = 0.5
SURE_PX = 0.12
DIFFERENT = 0.10  # of full range, over a few pixels, after colours are matched
GROWTH_PX = 3


def mask_of(
    patches: Displacements,
    wide: Float32[np.ndarray, "h w"],
    *,
    reduced: Float32[np.ndarray, "h w"],
    step_px: int,
) -> UInt8[np.ndarray, "h w"]:
    """Return 255 where a pair may be trained on, 0 where not.

    Args:
        patches: at every `step_px`, places on the grid of the pictures.
        wide: gray.
        reduced: the tele picture on the same grid, of the same resolution and brightness.
        step_px: from patch to patch.
    """
    bad = _different(wide, reduced)
    displaced = (np.hypot(*patches.moves.T) > DISPLACED_WIDE_PX) & (patches.deviation_px < SURE_PX)
    unlike = (patches.likeness < UNLIKE) & (patches.contrast > CONTRAST)
    for x, y in patches.places[displaced | unlike]:
        left, top = round(x - step_px / 2), round(y - step_px / 2)
        bad[max(top, 0) : top + step_px, max(left, 0) : left + step_px] = True
    grown = cv2.dilate(bad.astype(np.uint8), np.ones((2 * GROWTH_PX + 1,) * 2, np.uint8))
    return np.where(grown > 0, np.uint8(0), np.uint8(255))


def _different(wide: np.ndarray, reduced: np.ndarray) -> np.ndarray:
    """Return where brightness differs over more than single pixels: clipping, reflections."""
    difference = cv2.GaussianBlur(wide - reduced, (0, 0), 2.0)
    return np.abs(difference) > DIFFERENT
