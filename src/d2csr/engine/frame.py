"""The frame of a picture by the expanded tail, where a model pads every stage of its tail."""

import numpy as np

from d2csr.core.bundle import BundleCard
from d2csr.engine.backend import Graph, Planes


def paste_frame(
    tail: Graph, tail_frame: Graph, *, features: Planes, lr: Planes, card: BundleCard
) -> Planes:
    """Return predictions right up to all four sides of the features.

    Run on a band, this treats the band's upper and lower side as frame too; what it writes there is
    halo, or else the picture's own frame. Pictures lower or narrower than a strip run the expanded
    tail whole.
    """
    strip, kept = card.reach.frame_strip_lr_px, card.reach.frame_kept_lr_px
    if min(features.shape[2:]) < strip:
        return tail_frame([features, lr])[0]
    (predictions,) = tail([features, lr])
    inside = kept * card.scale
    sides = ((slice(None, strip), slice(None, inside)), (slice(-strip, None), slice(-inside, None)))
    for part, outer in sides:
        for index, target in (
            ((..., part, slice(None)), (..., outer, slice(None))),  # rows
            ((..., part), (..., outer)),  # columns
        ):
            pieces = [np.ascontiguousarray(planes[index]) for planes in (features, lr)]
            predictions[target] = tail_frame(pieces)[0][target]
    return predictions
