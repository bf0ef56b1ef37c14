"""Disagreement of the predictions: how far apart they are, pixel by pixel, in grey levels."""

import numpy as np
from jaxtyping import Float32

from d2csr.engine.output import EngineOutput

_GREY_LEVELS = np.float32(255)


def disagreement(output: EngineOutput) -> Float32[np.ndarray, "sh sw"]:
    """Return the weighted standard deviation of the predictions around SR, in grey levels.

    Weighted as they were fused, squares averaged over the three colours: the root of
    sum_i w_i |p_i - sr|^2 / 3, times 255.
    """
    variance = np.zeros(output.sr.shape[:2], np.float32)
    for prediction, weight in zip(output.predictions, output.weights, strict=True):
        variance += weight * np.square(prediction - output.sr).mean(axis=2)
    return np.sqrt(variance) * _GREY_LEVELS
