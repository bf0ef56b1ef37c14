"""What the engine says of a picture: SR, predictions and weights, as floats, nothing clipped."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32


class EngineOutput(NamedTuple):
    """RGB in the units of the input, rows first.

    Attributes:
        sr: the fused picture.
        predictions: one picture per leaf.
        weights: their weights, summing to one over the leaves.
    """

    sr: Float32[np.ndarray, "sh sw 3"]
    predictions: Float32[np.ndarray, "p sh sw 3"]
    weights: Float32[np.ndarray, "p sh sw"]
