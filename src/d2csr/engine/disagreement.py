"""Disagreement of the predictions: how far apart they are, pixel by pixel, in grey levels."""

import numpy as np
from jaxtyping import Float32

from d2csr.engine.output import EngineOutput

_GREY_LEVELS = np.float32(255)


def disagreement(output: EngineOutput) -> Float32[np.ndarray, "sh sw"]:
    """Return the standard deviation of the predictions, in grey levels.

    Each counts the same, whatever its weight in the fusion: doubt that the fusion resolves is doubt
    all the same, and where it picks one prediction a weighted deviation would be 0. Squares are
    averaged over the three colours: the root of mean_i |p_i - mean_j p_j|^2 / 3, times 255.
    """
    variance = output.predictions.var(axis=0, dtype=np.float32).mean(axis=2)
    return np.sqrt(variance) * _GREY_LEVELS
