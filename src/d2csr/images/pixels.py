"""Conversions of pixel values: RGB in 0..1, 8 bit, linear light.

Separate so that metrics, engine and align can import it without libvips.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt8, UInt16

from d2csr.images.colors import fill_transparent


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


@dataclass(frozen=True)
class StoredPixels:
    """How a file or an array stores its pixels, alpha aside.

    Attributes:
        dtype: uint8, uint16, or a floating-point type for values in 0..1.
        channels: 1 for gray, 3 for RGB.
        is_gray: whether all channels are equal in every pixel; SR is then gray too.
    """

    dtype: np.dtype[Any]
    channels: int
    is_gray: bool

    @classmethod
    def of(cls, pixels: Shaped[np.ndarray, "h w c"]) -> "StoredPixels":
        """Return the description of an image's pixels."""
        channels = pixels.shape[2]
        is_gray = all(
            np.array_equal(pixels[..., 0], pixels[..., channel]) for channel in range(1, channels)
        )
        return cls(pixels.dtype, channels, is_gray)

    @property
    def white(self) -> int:
        """Return the value of white."""
        return white_of(self.dtype)

    def quantize(self, values01: Float32[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
        """Return values, clipped to 0..1, as the nearest that can be stored."""
        if self.dtype.kind == "f":
            return values01.clip(0, 1).astype(self.dtype)
        scaled: np.ndarray[Any, np.dtype[Any]] = np.rint(values01 * np.float32(self.white))
        return scaled.clip(0, self.white).astype(self.dtype)


def white_of(dtype: np.dtype[Any]) -> int:
    """Return the value of white: 1 for floating-point types, the largest value for others."""
    return 1 if dtype.kind == "f" else int(np.iinfo(dtype).max)


def to_engine_rgb(
    pixels: Shaped[np.ndarray, "h w c"], alpha: Shaped[np.ndarray, "h w"] | None
) -> Float32[np.ndarray, "h w 3"]:
    """Return RGB in 0..1, gray repeated, the colors of transparent pixels filled in."""
    white = np.float32(white_of(pixels.dtype))
    rgb01 = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.float32)
    rgb01 /= white
    if alpha is None:
        return rgb01
    return fill_transparent(rgb01, alpha.astype(np.float32) / white)


def to_file_rows(
    sr01: Float32[np.ndarray, "rows sw 3"],
    *,
    stored: StoredPixels,
    alpha: Shaped[np.ndarray, "rows sw"] | None,
) -> Shaped[np.ndarray, "rows sw c"]:
    """Return rows of SR as a file stores them, alpha as the last channel.

    Args:
        sr01: RGB in 0..1; values outside are clipped.
        stored: how the input stores its pixels.
        alpha: of these rows, as the file stores it.
    """
    if stored.is_gray:
        sr01 = sr01.mean(axis=2, keepdims=True, dtype=np.float32)
    rows = stored.quantize(sr01)
    if stored.is_gray and stored.channels > 1:
        rows = np.repeat(rows, stored.channels, axis=2)
    return rows if alpha is None else np.concatenate([rows, alpha[..., None]], axis=2)


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
