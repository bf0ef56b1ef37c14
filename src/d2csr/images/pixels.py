"""Conversions of pixel values: rounding to 8 bit, and sRGB to linear light and back.

Separate so that metrics, engine and align can import it without libvips.
"""

import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16


def to_uint8(
    pixels: UInt8[np.ndarray, "*n"] | UInt16[np.ndarray, "*n"] | Float[np.ndarray, "*n"],
) -> UInt8[np.ndarray, "*n"]:
    """Return pixels as the nearest 8-bit values.

    Args:
        pixels: 8 bit, which is returned as it is; 16 bit, whose 65535 becomes 255; or floats, which
            are clipped to 0..1 and rounded in their own precision, halves to even.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 257 * 255
    scaled = np.rint(pixels * pixels.dtype.type(255))
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)


def srgb_to_linear(srgb01: Float[np.ndarray, "*grid"]) -> Float[np.ndarray, "*grid"]:
    """Return the linear light, 0..1, of sRGB values 0..1.

    Source: IEC 61966-2-1.
    """
    return np.where(srgb01 <= 0.04045, srgb01 / 12.92, ((srgb01 + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Float32[np.ndarray, "*grid"]) -> Float32[np.ndarray, "*grid"]:
    """Return the sRGB values of linear light, clipped to 0..1 first; accurate to 2e-5.

    Interpolates a table over the cube root of light, on which the curve is nearly straight: three
    times as fast as computing the curve for every pixel.
    """
    last = len(_SRGB_OF_CUBE_ROOT) - 1
    position = np.clip(linear, 0, 1) ** np.float32(1 / 3) * np.float32(last)
    index = np.minimum(position.astype(np.int32), last - 1)
    below = _SRGB_OF_CUBE_ROOT[index]
    share = position - index.astype(np.float32)
    return below + share * (_SRGB_OF_CUBE_ROOT[index + 1] - below)


def exact_linear_to_srgb(linear: Float[np.ndarray, "*grid"]) -> Float[np.ndarray, "*grid"]:
    """Return the sRGB values of linear light in 0..1, in the precision given.

    Source: IEC 61966-2-1.
    """
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


LINEAR_OF_SRGB8: Float32[np.ndarray, "256"] = srgb_to_linear(np.arange(256) / 255).astype(
    np.float32
)
_SRGB_OF_CUBE_ROOT: Float32[np.ndarray, "4096"] = exact_linear_to_srgb(
    np.linspace(0, 1, 4096) ** 3
).astype(np.float32)
