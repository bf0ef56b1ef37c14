"""Alpha: colours weighted by it and back, so that what is enlarged has no fringes."""

import numpy as np
from jaxtyping import Float32

Colours = Float32[np.ndarray, "h w c"]
Alpha = Float32[np.ndarray, "h w"]


def premultiplied(colours: Colours, alpha: Alpha) -> Colours:
    """Return colours 0..1 times alpha 0..1: what a see-through pixel hides weighs nothing."""
    return colours * alpha[..., None]


def straight(weighted: Colours, alpha: Alpha, *, levels: int = 255) -> Colours:
    """Return premultiplied colours divided by alpha, in 0..1.

    Where alpha rounds to 0 there is no colour to find: it is black, as no viewer shows it. Clipped,
    because an enlarged colour can come out above its enlarged alpha.

    Args:
        weighted: colours times alpha, both as enlarged.
        alpha: enlarged alpha, about 0..1.
        levels: the largest number of the file to write, 255 or 65535.
    """
    seen = alpha >= 0.5 / levels
    divisor = np.where(seen, alpha, np.float32(1.0))[..., None]
    return np.where(seen[..., None], np.clip(weighted / divisor, 0.0, 1.0), np.float32(0.0))
