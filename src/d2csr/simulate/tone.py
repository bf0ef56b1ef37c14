"""Tone: sRGB's curve both ways, and contrast on top of it."""

import numpy as np
from jaxtyping import Float, Float32


def linear_of_srgb(srgb01: Float[np.ndarray, "*grid"]) -> Float[np.ndarray, "*grid"]:
    """Return light, 0..1, of sRGB values (IEC 61966-2-1)."""
    return np.where(srgb01 <= 0.04045, srgb01 / 12.92, ((srgb01 + 0.055) / 1.055) ** 2.4)


def srgb_of_linear(linear: Float32[np.ndarray, "*grid"]) -> Float32[np.ndarray, "*grid"]:
    """Return sRGB values of light; clipped to 0..1 first."""
    place = np.clip(linear, 0, 1) ** np.float32(1 / 3) * np.float32(len(_SRGB_OF_ROOT) - 1)
    whole = np.minimum(place.astype(np.int32), len(_SRGB_OF_ROOT) - 2)
    below = _SRGB_OF_ROOT[whole]
    return below + (place - whole.astype(np.float32)) * (_SRGB_OF_ROOT[whole + 1] - below)


def with_contrast(
    srgb01: Float32[np.ndarray, "*grid"], slope: float
) -> Float32[np.ndarray, "*grid"]:
    """Return the values on an S whose middle has this slope; black, middle and white stay."""
    return srgb01 + np.float32(2 * (slope - 1)) * srgb01 * (1 - srgb01) * (2 * srgb01 - 1)


def _exact_srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# As float32 and by table: a curve over all pixels is read three times faster than computed. The
# table runs over the cube root of light, on which the curve is all but straight.
LINEAR_OF_SRGB8: Float32[np.ndarray, "256"] = linear_of_srgb(np.arange(256) / 255).astype(
    np.float32
)
_SRGB_OF_ROOT: Float32[np.ndarray, "4096"] = _exact_srgb(np.linspace(0, 1, 4096) ** 3).astype(
    np.float32
)
