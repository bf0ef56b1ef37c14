"""Geometric self-ensemble: the mean of what a model says of a picture's eight flips and turns."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from d2csr.core.grid import TURNS, turned
from d2csr.engine.engine import Engine


def self_ensemble(
    engine: Engine, lr01: Float32[np.ndarray, "h w 3"], *, warned: Callable[[str], object]
) -> Float32[np.ndarray, "sh sw 3"]:
    """Return the mean of eight SR pictures, each turned back; nothing is clipped or rounded before.

    The picture is kept whole, 12 bytes an SR pixel, because turned bands cross each other; each
    turn's own bands are added as they come, so that one sum is all there is. `warned` is told what
    the engine warns of.
    """
    scale = engine.bundle.card.scale
    height, width, _ = lr01.shape
    total = np.zeros((scale * height, scale * width, 3), np.float32)
    for turn in range(TURNS):
        seen = turned(total, turn)  # a view: the turn's rows top to bottom, wherever they lie
        for first, part in engine.bands(np.ascontiguousarray(turned(lr01, turn)), warned=warned):
            seen[first : first + part.sr.shape[0]] += part.sr
    total /= np.float32(TURNS)
    return total
